"""The mode in which a learner is enrolled if the caller names no mode."""

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.application.conftest import make_learner
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import ModeNotAllowed, change_mode, enroll, unenroll
from usher.application.runs.models import CourseMode
from usher.application.runs.services import ensure_run, sync_runs
from usher.engine.services import reconcile

KEY = "course-v1:edX+Modes+1"
#: A script that creates a run with one mode in the LMS.
_SCRIPT_FOR_RUN_WITH_ONE_MODE = (
    "from usher.embedded.home.seeds import create_run; "
    "from usher.embedded.course_modes.models import CourseMode as M; "
    "create_run({key!r}, 'Only {slug}'); "
    "M.objects.filter(course_id={key!r}).delete(); "
    "M.objects.create(course_id={key!r}, mode_slug={slug!r}, min_price={price})"
)


def make_run_with_modes(**prices):
    """Creates a run in the application only. prices: slug of a mode → its price."""
    run = ensure_run(KEY)
    for slug, price in prices.items():
        CourseMode.objects.create(run=run, slug=slug, min_price=price)
    return run


@pytest.mark.parametrize(
    ("prices", "mode"),
    [
        ({}, "audit"),
        ({"verified": 50, "audit": 0}, "audit"),
        ({"honor": 0}, "honor"),
        ({"verified": 0, "honor": 0}, "honor"),
        ({"verified": 50, "no-id-professional": 0}, "no-id-professional"),
    ],
)
def test_enroll_chooses_a_free_mode_of_the_run(db, prices, mode):
    assert enroll(make_learner(), make_run_with_modes(**prices)).mode == mode


def test_enroll_without_a_mode_fails_if_the_run_has_no_free_mode(db):
    run = make_run_with_modes(verified=50, professional=100)
    with pytest.raises(ModeNotAllowed, match=r"no free mode.*verified, professional"):
        enroll(make_learner(), run)
    assert not Enrollment.objects.exists()
    assert enroll(make_learner(), run, "verified").mode == "verified"


def test_enroll_chooses_no_expired_mode_and_no_mode_with_a_price_in_any_currency(db):
    run = make_run_with_modes(audit=0, honor=0)
    run.modes.filter(slug="audit").update(expires_at=timezone.now() - timedelta(days=1))
    assert enroll(make_learner(), run).mode == "honor"
    CourseMode.objects.create(run=run, slug="honor", min_price=5, currency="eur")
    with pytest.raises(ModeNotAllowed, match="no free mode"):
        enroll(make_learner(), run)


def test_enrolling_again_keeps_a_paid_mode_until_the_learner_unenrolls(db):
    user, run = make_learner(), make_run_with_modes(audit=0, verified=50)
    enroll(user, run)
    change_mode(user, run, "verified")
    assert enroll(user, run).mode == "verified"
    unenroll(user, run)
    assert enroll(user, run).mode == "audit"


@pytest.mark.parametrize("modes_are_known", [True, False])
def test_a_learner_is_enrolled_as_honor_in_a_run_that_offers_only_honor(
    system_with_each_api, modes_are_known
):
    key = f"course-v1:edX+Honor+{modes_are_known}"
    system_with_each_api.lms.shell(
        _SCRIPT_FOR_RUN_WITH_ONE_MODE.format(key=key, slug="honor", price=0)
    )
    run = ensure_run(key)
    if modes_are_known:
        assert sync_runs([key], modes=True).failed == 0
    user = system_with_each_api.learner()
    row = enroll(user, run)
    # If the modes are not known, one pass only reads them; the next one enrolls the learner.
    reconcile()
    reconcile()
    row.refresh_from_db()
    assert row.is_settled, row.error_message
    assert row.mode == "honor"
    assert system_with_each_api.enrollments(user.lms_account.username) == {key: ("honor", True)}


def test_an_enrollment_refused_for_its_mode_is_retried_when_the_run_has_the_mode(
    system_with_each_api,
):
    system = system_with_each_api
    key = "course-v1:edX+Later+1"
    system.lms.shell(_SCRIPT_FOR_RUN_WITH_ONE_MODE.format(key=key, slug="audit", price=0))
    user, run = system.learner(), ensure_run(key)
    row = enroll(user, run, "verified", reconcile_now=True)
    assert row.refused_at is not None, "the LMS has no such mode"
    system.lms.shell(
        "from usher.embedded.course_modes.models import CourseMode as M; "
        f"M.objects.create(course_id={key!r}, mode_slug='verified', min_price=10)"
    )
    assert sync_runs([key], modes=True).failed == 0
    reconcile(["enrollment"])
    row.refresh_from_db()
    assert row.is_settled, row.error_message
