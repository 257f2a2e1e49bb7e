"""The journey of a test learner: without the LMS plugin, past a micro-frontend, and sign-out."""

from collections.abc import Iterator

import pytest

from tests.doctor.faults.system import System
from usher.contract.oauth import BACKENDS, DEFAULT_BACKEND
from usher.doctor.check import Finding, Status
from usher.doctor.context import create_context
from usher.doctor.journey import journey_line
from usher.lms.settings.apply import FEATURES

pytestmark = pytest.mark.slow

#: Makes the LMS send learners to the dashboard's micro-frontend after sign-in.
USE_MICRO_FRONTEND = """
from waffle.models import Flag
Flag.objects.update_or_create(name="learner_home_mfe.enabled", defaults={"everyone": True})
"""


def journey_finding(system: System) -> Finding:
    with create_context(system.places) as context:
        return journey_line(context).finding


def test_the_application_creates_the_account_if_the_lms_has_no_plugin(system: System) -> None:
    # The settings of an LMS that has the sign-in backend, and no plugin of Usher.
    system.serve_lms_with(
        USHER_BACKENDS={},
        THIRD_PARTY_AUTH_BACKENDS=[BACKENDS[DEFAULT_BACKEND].class_path],
        FEATURES=FEATURES,
    )
    try:
        # Without the worker, which would create the account, too.
        with system.stopped("worker"):
            finding = journey_finding(system)
    finally:
        system.restore_settings()
    # A note or warning is right: an LMS without the plugin keeps the learner's account and does not
    # notify the application of a sign-out.
    assert finding.status in (Status.OK, Status.NOTE, Status.WARNING), finding.seen


@pytest.fixture
def system_with_micro_frontend(reconfigurable_system: System) -> Iterator[System]:
    """The system with a micro-frontend as learner dashboard, which does not answer programs."""
    system = reconfigurable_system
    system.serve_lms_with(LEARNER_HOME_MICROFRONTEND_URL="http://apps.usher.invalid/learner")
    system.lms.run(USE_MICRO_FRONTEND)
    yield system
    system.restore_settings()


def test_lms_9_notes_a_learner_dashboard_that_is_a_micro_frontend(
    system_with_micro_frontend: System,
) -> None:
    report = system_with_micro_frontend.examine()
    assert report.root_causes == []
    (note,) = report.lines_with_status(Status.NOTE)
    assert (note.id, note.finding.seen) == (
        "LMS-9",
        "sign-in ends at the micro-frontend http://apps.usher.invalid/learner",
    )
    finding = journey_finding(system_with_micro_frontend)
    assert finding.status is Status.OK, finding.seen


def test_the_journey_fails_if_sign_out_leaves_the_lms_session(
    system_with_micro_frontend: System,
) -> None:
    """Doctor finds the session with the LMS's API, because the dashboard redirects every
    visitor."""
    # Sign-out of the application neither leads to the LMS nor can notify it: without the address of
    # the application's keys, the LMS can't check messages.
    system_with_micro_frontend.serve_application_with(LOGOUT_REDIRECT_URL="")
    system_with_micro_frontend.lms.run(
        # The restart has restored the LMS's database, and so removed the flag.
        USE_MICRO_FRONTEND + "from usher.lms.connections.models import ConnectedApplication\n"
        "ConnectedApplication.objects.update(jwks_url='')"
    )
    finding = journey_finding(system_with_micro_frontend)
    assert finding.status is Status.FAILED
    assert "still signed in to the LMS" in finding.seen


def test_the_journey_notes_that_sign_out_of_the_lms_needs_frames(system: System) -> None:
    system.lms.run(
        "from usher.lms.connections.models import ConnectedApplication\n"
        "ConnectedApplication.objects.update(backchannel_logout_url='')"
    )
    finding = journey_finding(system)
    assert finding.status is Status.NOTE  # hidden frames end the session if cookies are sent
    assert "frames" in finding.cause
