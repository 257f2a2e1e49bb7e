"""A pytest plugin for projects that use Usher: LMS fixtures, and no other LMS in tests.

Fixtures: ``usher_lms`` (a real embedded LMS) and ``usher_fake_lms`` (one in memory). Requests to
any other LMS are refused; ``usher_lms_traffic = allowed`` in pytest's configuration permits them.
"""

from usher.testing.refusal import LmsTrafficRefused

__all__ = ["LmsTrafficRefused"]
