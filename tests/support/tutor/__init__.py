"""Real Tutor of each supported release, in its own roots, for tests of any package."""

from tests.support.tutor.environments import (
    RELEASES,
    tutor_executable,
    tutor_without_usher,
)
from tests.support.tutor.root import AS_NIGHTLY, TutorRoot
from tests.support.tutor.settings import read_lms_settings

__all__ = [
    "AS_NIGHTLY",
    "RELEASES",
    "TutorRoot",
    "read_lms_settings",
    "tutor_executable",
    "tutor_without_usher",
]
