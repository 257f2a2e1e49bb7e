"""A pytest plugin for projects that use Usher.

It offers the fixtures ``usher_lms``, a real embedded LMS, and ``usher_fake_lms``, one in memory.
Requests to any other LMS are refused; ``usher_lms_traffic = allowed`` in pytest's configuration
allows them.
"""

from usher.testing.refusal import LmsTrafficRefused

__all__ = ["LmsTrafficRefused"]
