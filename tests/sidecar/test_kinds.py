"""Course runs, unenrollments, profiles; grades and certificates, which are only compared."""

from typing import Any

from tests.sidecar.conftest import Sides
from tests.sidecar.test_drift import course_of, mode_of
from tests.sidecar.test_reconcile import _mode, only, stem


def run_fields(sides: Sides, course: str) -> Any:
    ((found),) = sides.rows("courses.CourseRun", "title", "start_date", courseware_id=course)
    return found


def changed_run(sides: Sides, course: str, **values: str) -> None:
    sides.shape.run(
        "from courses.models import CourseRun\n"
        f"CourseRun.objects.filter(courseware_id={course!r}).update(**{values!r})\nresult = None"
    )


def test_titles_and_dates_of_runs_follow_the_lms(sides: Sides) -> None:
    name, course = stem(sides, "runs"), course_of(sides)
    sides.people(name)
    sides.enroll(name, course, **_mode(sides))
    sides.json("reconcile")
    right = run_fields(sides, course)
    assert right[1] is not None
    changed_run(sides, course, title="Old", start_date="2001-01-01T00:00:00Z")

    assert sides.json("reconcile", "--dry-run", "--kind", "run") == {"due": {"run": 1}}
    drift = sides.json("drift", "--kind", "run")["differences"]
    assert {each["difference"].split()[0] for each in drift if each["what"] == course} == {
        "title",
        "start",
    }
    done = sides.json("reconcile", "--kind", "run")
    assert done["kinds"]["run"]["done"] == 1, done
    assert run_fields(sides, course) == right
    assert sides.json("reconcile", "--kind", "run")["kinds"] == {}


@only("mitxonline")
def test_modes_of_runs_are_added_as_the_lms_has_them(sides: Sides) -> None:
    name, course = stem(sides, "offered"), course_of(sides)
    sides.people(name)
    sides.enroll(name, course, **_mode(sides))
    sides.json("reconcile")
    sides.lms.shell(_OFFER.format(course=course))
    sides.shape.run(
        "from courses.models import CourseRun, EnrollmentMode\n"
        f"run = CourseRun.objects.get(courseware_id={course!r})\n"
        "own = EnrollmentMode.objects.create(mode_slug='own', mode_display_name='Own')\n"
        "run.enrollment_modes.set([own])\nresult = None"
    )
    changed_run(sides, course, upgrade_deadline="2030-01-01T00:00:00Z")

    found = sides.json("drift", "--kind", "run-mode")["differences"]
    words = {each["difference"].split(",")[0] for each in found if each["what"] == course}
    assert "offered as executive in the LMS" in words
    assert sides.json("reconcile", "--dry-run", "--kind", "run-mode") == {"due": {"run-mode": 1}}
    assert sides.json("reconcile", "--kind", "run-mode")["kinds"]["run-mode"]["done"] == 1

    modes = sides.rows(
        "courses.CourseRun",
        "enrollment_modes__mode_slug",
        "enrollment_modes__requires_payment",
        courseware_id=course,
    )
    offered = sides.lms.shell(
        "from usher.embedded.course_modes.models import CourseMode\n"
        f"found = CourseMode.objects.filter(course_id={course!r})\n"
        "print(*found.values_list('mode_slug', flat=True))"
    )
    assert {slug for slug, _ in modes} == {"own", *offered.split()}
    known = {("own", False), ("audit", False), ("verified", True), ("executive", False)}
    assert known <= set(map(tuple, modes))
    ((deadline,),) = sides.rows("courses.CourseRun", "upgrade_deadline", courseware_id=course)
    assert deadline.startswith("2031-02-03")
    assert sides.json("reconcile")["kinds"] == {}


_OFFER = """
from datetime import datetime, timezone
from usher.embedded.course_modes.models import CourseMode
for slug, ends in (("verified", datetime(2031, 2, 3, tzinfo=timezone.utc)), ("executive", None)):
    CourseMode.objects.update_or_create(course_id="{course}", mode_slug=slug,
        defaults=dict(mode_display_name=slug.title(), expiration_datetime=ends))
"""


@only("mitxpro")
def test_dates_that_the_application_refuses_are_reported(sides: Sides) -> None:
    name, course = stem(sides, "clean"), course_of(sides)
    sides.people(name)
    sides.enroll(name, course)
    sides.json("reconcile")
    sides.lms.shell(_DATES.format(course=course, end="2001-01-01"))
    try:
        done = sides.json("reconcile", "--kind", "run")
        assert done["kinds"]["run"]["refused"] == 1
        assert "End date must be later" in done["reasons"][0]["reason"]
    finally:
        sides.lms.shell(_DATES.format(course=course, end="2040-01-01"))
        sides.json("reconcile", "--kind", "run")


_DATES = """
from datetime import datetime, timezone
from usher.embedded.course_overviews.models import CourseOverview
CourseOverview.objects.filter(id="{course}").update(
    end=datetime.fromisoformat("{end}").replace(tzinfo=timezone.utc))
"""


def ended(sides: Sides, name: str) -> None:
    """Ends an enrollment as the application's own code does if its request to the LMS fails."""
    sides.shape.run(
        "from courses.models import CourseRunEnrollment\n"
        f"CourseRunEnrollment.objects.filter(user__username={name!r})"
        ".update(active=False, change_status='refunded')\nresult = None"
    )


def test_refunded_enrollments_are_ended_in_the_lms_on_request(sides: Sides) -> None:
    name, course = stem(sides, "ended"), course_of(sides)
    sides.people(name)
    sides.enroll(name, course, **_mode(sides))
    sides.json("reconcile")
    ended(sides, name)
    assert sides.json("reconcile")["kinds"] == {}
    assert sides.enrollments_in_lms(name) == {(course, mode_of(sides), True)}

    done = sides.json("reconcile", "--kind", "unenrollment")

    assert done["kinds"]["unenrollment"]["done"] == 1, done
    assert sides.enrollments_in_lms(name) == {(course, mode_of(sides), False)}
    row = sides.rows("courses.CourseRunEnrollment", "edx_enrolled", user__username=name)
    assert row == [(False,)]
    audit = sides.rows("courses.CourseRunEnrollmentAudit", "pk", enrollment__user__username=name)
    assert len(audit) == 2
    assert sides.json("reconcile", "--kind", "unenrollment")["kinds"] == {}


@only("mitxpro")
def test_another_order_for_the_run_keeps_the_enrollment(sides: Sides) -> None:
    name, course = stem(sides, "kept"), course_of(sides)
    sides.people(name)
    sides.enroll(name, course)
    sides.json("reconcile")
    ended(sides, name)
    sides.shape.run(
        "from ecommerce.models import Order\nfrom users.models import User\n"
        f"Order.objects.create(pk=78, purchaser=User.objects.get(username={name!r}))\n"
        "result = None"
    )
    sides.enroll(name, course, order_id=78)
    sides.json("reconcile", "--kind", "enrollment", "--kind", "unenrollment")
    assert sides.enrollments_in_lms(name) == {(course, mode_of(sides), True)}
    rows = sides.rows("courses.CourseRunEnrollment", "active", "edx_enrolled", user__username=name)
    assert sorted(rows) == [(False, False), (True, True)]


def test_name_and_email_follow_the_application_when_asked_for(sides: Sides) -> None:
    name, same = stem(sides, "moved"), stem(sides, "stayed")
    sides.people(name, same)
    sides.json("reconcile")
    changed_user(sides, name)

    done = sides.json("reconcile", "--kind", "profile")

    assert done["kinds"]["profile"] == {"done": 1, "refused": 0, "failed": 0, "left": 0}, done
    (account,) = sides.api("GET", f"/api/user/v1/accounts?username={name}")
    assert (account["name"], account["email"]) == ("Another Name", f"{name}@new.example")
    assert sides.json("reconcile", "--kind", "profile")["kinds"] == {}


def test_kinds_that_must_be_named(sides: Sides) -> None:
    """``missing`` creates enrollments again, ``mode`` changes modes, ``adopt`` creates rows in the
    application."""
    lost, paid, more, only_there, refunded = names = [
        stem(sides, name) for name in ("lostone", "paid", "more", "only", "refund")
    ]
    course, mode = course_of(sides), mode_of(sides)
    sides.people(*names)
    for name in (lost, paid, more, refunded):
        sides.enroll(name, course, **_mode(sides))
    asked = ("--run", course)
    sides.json("reconcile")
    sides.lms.shell(
        "from usher.embedded.course_modes.models import CourseMode\n"
        "from usher.embedded.student.models import CourseEnrollment\n"
        f"CourseMode.objects.get_or_create(course_id={course!r}, mode_slug='verified',\n"
        "    defaults={'mode_display_name': 'Verified'})\n"
        f"CourseEnrollment.objects.filter(user__username={lost!r}).delete()"
    )
    online = sides.shape.name == "mitxonline"
    if online:
        set_mode(sides, paid, "verified")
    sides.enrolled_in_lms(more, course, "verified")
    sides.enrolled_in_lms(only_there, course, "verified")
    ended(sides, refunded)

    due = sides.json(
        "reconcile", "--dry-run", "--kind", "missing", "--kind", "mode", "--kind", "adopt", *asked
    )["due"]
    assert due == {"missing": 1, "mode": 1, "adopt": 1}
    for kind in ("missing", "mode", "adopt"):
        done = sides.json("reconcile", "--kind", kind, *asked)
        assert done["kinds"] == {kind: {"done": due[kind], "refused": 0, "failed": 0, "left": 0}}, (
            done
        )
        assert sides.json("reconcile", "--kind", kind, *asked)["kinds"] == {}

    assert sides.enrollments_in_lms(lost) == {(course, mode, True)}
    assert sides.enrollments_in_lms(paid) == {(course, "verified" if online else mode, True)}
    # MIT xPro has one mode for all, which is paid.
    assert sides.enrollments_in_lms(more) == {(course, "verified" if online else mode, True)}
    adopted = sides.rows(
        "courses.CourseRunEnrollment", "active", "edx_enrolled", user__username=only_there
    )
    assert adopted == [(True, True)]
    audit = {"enrollment__user__username": only_there}
    assert len(sides.rows("courses.CourseRunEnrollmentAudit", "pk", **audit)) == 1
    refund = sides.rows("courses.CourseRunEnrollment", "active", user__username=refunded)
    assert refund == [(False,)]


def set_mode(sides: Sides, name: str, mode: str) -> None:
    sides.shape.run(
        "from courses.models import CourseRunEnrollment\n"
        f"CourseRunEnrollment.objects.filter(user__username={name!r})"
        f".update(enrollment_mode={mode!r})\nresult = None"
    )


def changed_user(sides: Sides, name: str) -> None:
    sides.shape.run(
        f"from users.models import User\nUser.objects.filter(username={name!r})"
        f".update(name='Another Name', email='{name}@new.example')\nresult = None"
    )


def test_an_account_that_the_lms_deactivated_keeps_its_details(sides: Sides) -> None:
    name = stem(sides, "banned")
    sides.people(name)
    sides.json("reconcile")
    sides.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"get_user_model().objects.filter(username={name!r}).update(is_active=False)"
    )
    changed_user(sides, name)
    assert sides.json("reconcile", "--kind", "profile")["kinds"] == {}


def test_grades_and_certificates_that_are_missing_here_are_listed(sides: Sides) -> None:
    passed, by_staff = stem(sides, "passed"), stem(sides, "bystaff")
    course = course_of(sides)
    sides.people(passed, by_staff)
    for name in (passed, by_staff):
        sides.enroll(name, course, **_mode(sides))
    sides.json("reconcile")
    sides.shape.run(
        "from users.models import User\n"
        "from courses.models import CourseRun, CourseRunGrade\n"
        f"run = CourseRun.objects.get(courseware_id={course!r})\n"
        f"CourseRunGrade.objects.create(user=User.objects.get(username={by_staff!r}),\n"
        "    course_run=run, grade=1.0, passed=True, set_by_admin=True)\nresult = None"
    )
    sides.lms.shell(_PASSED.format(course=course, names=(passed, by_staff)))
    found = sides.json("drift", "--kind", "grade", "--kind", "certificate")["differences"]
    told = {(each["kind"], each["what"], each["difference"]) for each in found}
    assert ("grade", f"{passed} in {course}", "90%, passed in the LMS; no grade here") in told
    words = "a certificate in the LMS; none here"
    assert ("certificate", f"{passed}@example.org in {course}", words) in told
    assert not [each for each in told if each[0] == "grade" and by_staff in each[1]]
    assert sides.rows("courses.CourseRunGrade", "pk", user__username=passed) == []


_PASSED = """
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


@only("mitxpro")
def test_an_application_without_modes_is_reported(sides: Sides) -> None:
    for command in ("reconcile", "drift"):
        done = sides.usher(command, "--kind", "run-mode")
        assert done.exit_code in (0, 1), done.output
        assert "MIT xPro keeps no modes of course runs" in done.output
    assert sides.json("reconcile", "--kind", "run-mode", "--dry-run") == {"due": {}}
