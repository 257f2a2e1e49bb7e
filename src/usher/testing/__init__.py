"""A pytest plugin for projects that use Usher.

It offers the fixtures ``usher_lms``, a real embedded LMS, and ``usher_fake_lms``, an LMS in memory.
Requests to any other LMS are refused, unless pytest's configuration contains ``usher_lms_traffic =
allowed``.
"""

from usher.testing.refusal import LmsTrafficRefused

__all__ = ["LmsTrafficRefused"]
