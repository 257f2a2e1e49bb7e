"""Course runs, unenrollments, profiles; grades and certificates, which are only compared."""

from typing import Any

import pytest

from tests.sidecar.conftest import System, name_for
from tests.sidecar.test_drift import course_of, mode_of
from tests.sidecar.test_reconcile import mode_field, only_for


def title_and_start(system: System, course: str) -> Any:
    """(title, start) of the run in the application."""
    (fields,) = system.rows("courses.CourseRun", "title", "start_date", courseware_id=course)
    return fields


def change_run(system: System, course: str, **values: str) -> None:
    """Changes columns of the run in the application."""
    system.application.run(
        "from courses.models import CourseRun\n"
        f"CourseRun.objects.filter(courseware_id={course!r}).update(**{values!r})\nresult = None"
    )


def test_titles_and_dates_of_runs_follow_the_lms(system: System) -> None:
    name, course = name_for(system, "runs"), course_of(system)
    system.create_users(name)
    system.create_enrollment(name, course, **mode_field(system))
    set_dates_in_lms(system, course, start="2040-01-01", end="2041-01-01")
    system.json("reconcile")
    title, start = title_and_start(system, course)
    assert start is not None
    change_run(system, course, title="Old", start_date="2001-01-01T00:00:00Z")

    assert system.json("reconcile", "--dry-run", "--kind", "run") == {"due": {"run": 1}}
    drift = system.json("drift", "--kind", "run")["differences"]
    assert {each["difference"].split()[0] for each in drift if each["what"] == course} == {
        "title",
        "start",
    }
    result = system.json("reconcile", "--kind", "run")
    assert result["kinds"]["run"]["done"] == 1, result
    assert title_and_start(system, course) == (title, start)
    assert system.json("reconcile", "--kind", "run")["kinds"] == {}


@only_for("mitxonline")
def test_modes_that_the_lms_offers_are_added_to_the_run(system: System) -> None:
    name, course = name_for(system, "offered"), course_of(system)
    system.create_users(name)
    system.create_enrollment(name, course, **mode_field(system))
    system.json("reconcile")
    system.lms.shell(_OFFER_MODES.format(course=course))
    system.application.run(
        "from courses.models import CourseRun, EnrollmentMode\n"
        f"run = CourseRun.objects.get(courseware_id={course!r})\n"
        "own = EnrollmentMode.objects.create(mode_slug='own', mode_display_name='Own')\n"
        "run.enrollment_modes.set([own])\nresult = None"
    )
    # In the LMS, the mode verified ends in 2031, which is the deadline for upgrades.
    change_run(system, course, upgrade_deadline="2030-01-01T00:00:00Z")

    differences = system.json("drift", "--kind", "run-mode")["differences"]
    texts = {each["difference"].split(",")[0] for each in differences if each["what"] == course}
    assert "offered as executive in the LMS" in texts
    assert system.json("reconcile", "--dry-run", "--kind", "run-mode") == {"due": {"run-mode": 1}}
    assert system.json("reconcile", "--kind", "run-mode")["kinds"]["run-mode"]["done"] == 1

    modes = system.rows(
        "courses.CourseRun",
        "enrollment_modes__mode_slug",
        "enrollment_modes__requires_payment",
        courseware_id=course,
    )
    modes_in_lms = system.lms.shell(
        "from usher.embedded.course_modes.models import CourseMode\n"
        f"found = CourseMode.objects.filter(course_id={course!r})\n"
        "print(*found.values_list('mode_slug', flat=True))"
    )
    assert {slug for slug, _ in modes} == {"own", *modes_in_lms.split()}
    expected_modes = {("own", False), ("audit", False), ("verified", True), ("executive", False)}
    assert expected_modes <= set(map(tuple, modes))
    ((deadline,),) = system.rows("courses.CourseRun", "upgrade_deadline", courseware_id=course)
    assert deadline.startswith("2031-02-03")
    assert system.json("reconcile")["kinds"] == {}


#: A script that makes the LMS offer verified, and executive, a mode that the application lacks.
_OFFER_MODES = """
from datetime import datetime, timezone
from usher.embedded.course_modes.models import CourseMode
for slug, ends in (("verified", datetime(2031, 2, 3, tzinfo=timezone.utc)), ("executive", None)):
    CourseMode.objects.update_or_create(course_id="{course}", mode_slug=slug,
        defaults=dict(mode_display_name=slug.title(), expiration_datetime=ends))
"""


@only_for("mitxpro")
def test_a_run_keeps_its_dates_if_the_application_does_not_accept_those_of_the_lms(
    system: System,
) -> None:
    """MIT xPro refuses to save a run that has started and that nobody can join any more."""
    name, course = name_for(system, "clean"), course_of(system)
    system.create_users(name)
    system.create_enrollment(name, course)
    set_dates_in_lms(system, course, start="2040-01-01", end="2041-01-01")
    system.json("reconcile")
    before = title_and_start(system, course)
    set_dates_in_lms(system, course, start="2020-01-01", end="2041-01-01")
    try:
        assert system.json("reconcile", "--dry-run", "--kind", "run") == {"due": {"run": 0}}
        result = system.json("reconcile", "--kind", "run")
        assert result["ok"]
        invalid = {"done": 0, "refused": 0, "failed": 0, "skipped": 0, "invalid": 1}
        assert result["kinds"] == {"run": invalid}
        words = (
            "MIT xPro does not accept the LMS's values: Start date or enrollment end must be in "
            "the future. Change the dates of the run in the LMS, or leave it as it is"
        )
        assert [reason["reason"] for reason in result["reasons"]] == [words]
        assert title_and_start(system, course) == before

        (difference,) = system.json("drift", "--kind", "run")["differences"]
        assert difference["difference"].startswith("start 2040-01-01")
        assert difference["difference"].endswith(words)
        assert not difference["waiting"]
    finally:
        set_dates_in_lms(system, course, start="2040-01-01", end="2041-01-01")
    assert system.json("drift", "--kind", "run")["differences"] == []


def set_dates_in_lms(system: System, course: str, **dates: str) -> None:
    system.lms.shell(_SET_DATES.format(course=course, dates=dates))


_SET_DATES = """
from datetime import datetime, timezone
from usher.embedded.course_overviews.models import CourseOverview
dates = {{name: datetime.fromisoformat(day).replace(tzinfo=timezone.utc)
          for name, day in {dates!r}.items()}}
CourseOverview.objects.filter(id="{course}").update(**dates)
"""


def end_enrollment(system: System, name: str) -> None:
    """Ends the learner's enrollments in the application but not in the LMS, as the application's
    own code does if its request to the LMS fails."""
    system.application.run(
        "from courses.models import CourseRunEnrollment\n"
        f"CourseRunEnrollment.objects.filter(user__username={name!r})"
        ".update(active=False, change_status='refunded')\nresult = None"
    )


def test_refunded_enrollments_are_ended_in_the_lms_on_request(system: System) -> None:
    name, course = name_for(system, "ended"), course_of(system)
    system.create_users(name)
    system.create_enrollment(name, course, **mode_field(system))
    system.json("reconcile")
    end_enrollment(system, name)
    assert system.json("reconcile")["kinds"] == {}
    assert system.enrollments_in_lms(name) == {(course, mode_of(system), True)}

    result = system.json("reconcile", "--kind", "unenrollment")

    assert result["kinds"]["unenrollment"]["done"] == 1, result
    assert system.enrollments_in_lms(name) == {(course, mode_of(system), False)}
    row = system.rows("courses.CourseRunEnrollment", "edx_enrolled", user__username=name)
    assert row == [(False,)]
    audit = system.rows("courses.CourseRunEnrollmentAudit", "pk", enrollment__user__username=name)
    assert len(audit) == 2  # for "edx_enrolled" when the enrollment was sent and when it was ended
    assert system.json("reconcile", "--kind", "unenrollment")["kinds"] == {}


@only_for("mitxpro")
def test_an_enrollment_with_a_second_order_is_not_ended(system: System) -> None:
    name, course = name_for(system, "kept"), course_of(system)
    system.create_users(name)
    system.create_enrollment(name, course)
    system.json("reconcile")
    end_enrollment(system, name)
    # The learner enrolls in the same run again, with another order.
    system.application.run(
        "from ecommerce.models import Order\nfrom users.models import User\n"
        f"Order.objects.create(pk=78, purchaser=User.objects.get(username={name!r}))\n"
        "result = None"
    )
    system.create_enrollment(name, course, order_id=78)
    system.json("reconcile", "--kind", "enrollment", "--kind", "unenrollment")
    assert system.enrollments_in_lms(name) == {(course, mode_of(system), True)}
    rows = system.rows("courses.CourseRunEnrollment", "active", "edx_enrolled", user__username=name)
    assert sorted(rows) == [(False, False), (True, True)]


def test_the_kind_profile_changes_name_and_email_in_the_lms(system: System) -> None:
    name, unchanged = name_for(system, "moved"), name_for(system, "stayed")
    system.create_users(name, unchanged)
    system.json("reconcile")
    change_user(system, name)

    result = system.json("reconcile", "--kind", "profile")

    assert result["kinds"]["profile"] == {
        "done": 1,
        "refused": 0,
        "failed": 0,
        "skipped": 0,
        "invalid": 0,
    }, result
    (account,) = system.api("GET", f"/api/user/v1/accounts?username={name}")
    assert (account["name"], account["email"]) == ("Another Name", f"{name}@new.example")
    assert system.json("reconcile", "--kind", "profile")["kinds"] == {}


def test_some_kinds_are_reconciled_only_if_they_are_named(system: System) -> None:
    """``missing`` enrolls learners again if the LMS lost their enrollment, ``mode`` changes modes
    in the LMS, ``adopt`` creates rows in the application."""
    lost, paid, upgraded_in_lms, only_in_lms, refunded = names = [
        name_for(system, name) for name in ("lostone", "paid", "more", "only", "refund")
    ]
    # ``lost``: the LMS loses the enrollment. ``paid``: MITx Online changes the mode.
    # ``upgraded_in_lms``: the LMS changes the mode. ``only_in_lms``: has no row in the application.
    # ``refunded``: is ended in the application, and none of the three kinds changes anything.
    course, mode = course_of(system), mode_of(system)
    system.create_users(*names)
    for name in (lost, paid, upgraded_in_lms, refunded):
        system.create_enrollment(name, course, **mode_field(system))
    run_option = ("--run", course)
    system.json("reconcile")
    system.lms.shell(
        "from usher.embedded.course_modes.models import CourseMode\n"
        "from usher.embedded.student.models import CourseEnrollment\n"
        f"CourseMode.objects.get_or_create(course_id={course!r}, mode_slug='verified',\n"
        "    defaults={'mode_display_name': 'Verified'})\n"
        f"CourseEnrollment.objects.filter(user__username={lost!r}).delete()"
    )
    is_mitxonline = system.application.name == "mitxonline"
    if is_mitxonline:
        set_mode(system, paid, "verified")
    system.set_enrollment_in_lms(upgraded_in_lms, course, "verified")
    system.set_enrollment_in_lms(only_in_lms, course, "verified")
    end_enrollment(system, refunded)

    only_if_named = {"missing", "mode", "adopt"}
    assert not only_if_named & system.json("reconcile", "--dry-run", *run_option)["due"].keys()
    assert not only_if_named & system.json("reconcile", *run_option)["kinds"].keys()
    assert system.enrollments_in_lms(lost) == set()
    assert system.enrollments_in_lms(paid) == {(course, mode, True)}
    assert system.rows("courses.CourseRunEnrollment", "pk", user__username=only_in_lms) == []

    due = system.json(
        "reconcile",
        "--dry-run",
        "--kind",
        "missing",
        "--kind",
        "mode",
        "--kind",
        "adopt",
        *run_option,
    )["due"]
    assert due == {"missing": 1, "mode": 1, "adopt": 1}
    for kind in ("missing", "mode", "adopt"):
        result = system.json("reconcile", "--kind", kind, *run_option)
        assert result["kinds"] == {
            kind: {"done": due[kind], "refused": 0, "failed": 0, "skipped": 0, "invalid": 0}
        }, result
        assert system.json("reconcile", "--kind", kind, *run_option)["kinds"] == {}

    assert system.enrollments_in_lms(lost) == {(course, mode, True)}
    assert system.enrollments_in_lms(paid) == {
        (course, "verified" if is_mitxonline else mode, True)
    }
    # A paid mode in the LMS is not replaced by a free one. MIT xPro enrolls everybody in the same,
    # paid, mode.
    assert system.enrollments_in_lms(upgraded_in_lms) == {
        (course, "verified" if is_mitxonline else mode, True)
    }
    adopted = system.rows(
        "courses.CourseRunEnrollment", "active", "edx_enrolled", user__username=only_in_lms
    )
    assert adopted == [(True, True)]
    audit = {"enrollment__user__username": only_in_lms}
    assert len(system.rows("courses.CourseRunEnrollmentAudit", "pk", **audit)) == 1
    refund = system.rows("courses.CourseRunEnrollment", "active", user__username=refunded)
    assert refund == [(False,)]


def set_mode(system: System, name: str, mode: str) -> None:
    """Changes the mode of the learner's enrollments in the application."""
    system.application.run(
        "from courses.models import CourseRunEnrollment\n"
        f"CourseRunEnrollment.objects.filter(user__username={name!r})"
        f".update(enrollment_mode={mode!r})\nresult = None"
    )


def change_user(system: System, name: str) -> None:
    """Changes the user's name and e-mail address in the application."""
    system.application.run(
        f"from users.models import User\nUser.objects.filter(username={name!r})"
        f".update(name='Another Name', email='{name}@new.example')\nresult = None"
    )


def test_name_and_email_of_an_account_deactivated_in_the_lms_are_not_changed(
    system: System,
) -> None:
    name = name_for(system, "banned")
    system.create_users(name)
    system.json("reconcile")
    system.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"get_user_model().objects.filter(username={name!r}).update(is_active=False)"
    )
    change_user(system, name)
    assert system.json("reconcile", "--kind", "profile")["kinds"] == {}
    stored = system.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"user = get_user_model().objects.get(username={name!r})\n"
        "print(user.profile.name, user.email)"
    )
    assert stored == f"Name {name} {name}@example.org"


def test_grades_and_certificates_that_the_application_lacks_are_listed(system: System) -> None:
    passed, by_staff = name_for(system, "passed"), name_for(system, "bystaff")
    course = course_of(system)
    system.create_users(passed, by_staff)
    for name in (passed, by_staff):
        system.create_enrollment(name, course, **mode_field(system))
    system.json("reconcile")
    system.application.run(
        "from users.models import User\n"
        "from courses.models import CourseRun, CourseRunGrade\n"
        f"run = CourseRun.objects.get(courseware_id={course!r})\n"
        f"CourseRunGrade.objects.create(user=User.objects.get(username={by_staff!r}),\n"
        "    course_run=run, grade=1.0, passed=True, set_by_admin=True)\nresult = None"
    )
    system.lms.shell(_PASS_RUN.format(course=course, names=(passed, by_staff)))
    differences = system.json("drift", "--kind", "grade", "--kind", "certificate")["differences"]
    triples = {(each["kind"], each["what"], each["difference"]) for each in differences}
    assert ("grade", f"{passed} in {course}", "90%, passed in the LMS; no grade here") in triples
    # A grade is named by its username, a certificate by its e-mail address.
    words = "a certificate in the LMS; none here"
    assert ("certificate", f"{passed}@example.org in {course}", words) in triples
    # A grade that staff set is not compared.
    assert not [what for kind, what, _ in triples if kind == "grade" and by_staff in what]
    grades_here = system.rows("courses.CourseRunGrade", "pk", user__username=passed)
    assert grades_here == [], "drift only lists differences"


@pytest.mark.parametrize("key", ["", "no-key", "course-v1:a+b", "a/b/c/d", "course-v1:é+b+c"])
def test_a_run_without_a_course_key_is_no_error_in_the_comparison_of_grades(
    system: System, key: str
) -> None:
    """No path of the LMS leads to such a key."""
    name = name_for(system, "oddkey")
    if not system.rows("users.User", "pk", username=name):
        system.create_users(name)
    system.create_enrollment(name, key, **mode_field(system))
    report = system.json("drift", "--kind", "grade")
    assert "error" not in report, report["error"]
    system.application.run(
        "from courses.models import CourseRun, CourseRunEnrollment\n"
        f"CourseRunEnrollment._base_manager.filter(run__courseware_id={key!r}).delete()\n"
        f"CourseRun.objects.filter(courseware_id={key!r}).delete()\nresult = None"
    )
    system.deactivate_users(name)


#: Gives these learners a grade and a certificate in the LMS.
_PASS_RUN = """
from django.contrib.auth import get_user_model
from django.utils import timezone
from usher.embedded.certificates.models import GeneratedCertificate
from usher.embedded.grades.models import PersistentCourseGrade
for user in get_user_model().objects.filter(username__in={names!r}):
    PersistentCourseGrade.objects.create(user_id=user.pk, course_id="{course}",
        percent_grade=0.9, letter_grade="A", passed_timestamp=timezone.now())
    GeneratedCertificate.objects.create(user=user, course_id="{course}", status="downloadable",
        mode="honor", grade="0.9", name=user.username)
"""


@only_for("mitxpro")
def test_an_application_without_modes_of_runs_is_reported(system: System) -> None:
    for command in ("reconcile", "drift"):
        result = system.usher(command, "--kind", "run-mode")
        assert result.exit_code == 0, result.output
        assert "MIT xPro keeps no modes of course runs" in result.output
    assert system.json("reconcile", "--kind", "run-mode", "--dry-run") == {"due": {}}
