"""The journey through an LMS that does nothing by itself for the application's learners."""

from tests.doctor.faults.system import System
from usher.contract.oauth import BACKENDS, DEFAULT_BACKEND
from usher.doctor.check import Status
from usher.doctor.context import look_at
from usher.doctor.journey import walk
from usher.lms.settings.apply import FEATURES


def test_without_the_plugin_the_application_makes_the_account(system: System) -> None:
    system.serve_lms_with(
        USHER_BACKENDS={},
        THIRD_PARTY_AUTH_BACKENDS=[BACKENDS[DEFAULT_BACKEND].class_path],
        FEATURES=FEATURES,
    )
    try:
        with system.stopped("engine"), look_at(system.places) as context:
            line = walk(context)
    finally:
        system.as_before()
    assert line.finding.status in (Status.OK, Status.WARNING), line.finding.seen
