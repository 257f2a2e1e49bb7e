"""Rows that the application changes while the LMS processes their batch: the application's change
is kept, and unneeded changes in the LMS are ended or reported."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.sidecar.conftest import Sides
from tests.sidecar.test_drift import course_of, mode_of
from tests.sidecar.test_reconcile import ACCOUNT, _mode, stem, tokens
from tests.support.faults import UNAVAILABLE, FaultyProxy, faulty_proxy

ACCOUNTS, ENROLLMENTS = "/usher/api/v1/accounts/", "/usher/api/v1/enrollments/"


@contextmanager
def meanwhile(
    sides: Sides, path: str, do: Callable[[], object], then: str = ""
) -> Iterator[FaultyProxy]:
    """A proxy that lets the application do something before it forwards the first request for
    ``path``. Later requests for it get the fault ``then``."""
    asked = threading.Event()
    with faulty_proxy(sides.lms.url) as proxy:

        def decide(method: str, wanted: str) -> str:
            if method != "POST" or not wanted.startswith(path):
                return ""
            if asked.is_set():
                return then
            asked.set()
            do()
            return ""

        proxy.decide = decide
        yield proxy


def test_a_learner_renamed_meanwhile_has_no_account_recorded(sides: Sides) -> None:
    """Neither the account nor the token of the old name would be the learner's."""
    name, online = stem(sides, "renamed"), sides.shape.name == "mitxonline"
    sides.people(name)
    table = "openedx.models import OpenEdxUser as Named"
    column = "edx_username"
    if not online:
        table, column = "users.models import User as Named", "username"

    def rename() -> None:
        changed = sides.shape.run(
            f"from {table}\n"
            f"result = Named.objects.filter({column}={name!r}).update({column}={name + 'x'!r})"
        )
        assert changed == 1

    with meanwhile(sides, ACCOUNTS, rename) as proxy:
        done = sides.json("reconcile", "--kind", "account", "--lms-url", proxy.url)
    assert done["kinds"]["account"]["left"] == 1, done
    (reason,) = done["reasons"]
    assert "the application's row is changed" in reason["reason"]
    owner = name if online else name + "x"
    assert tokens(sides, owner) == []
    made = sides.rows(ACCOUNT[sides.shape.name], "has_been_synced", user__username=owner)
    assert made == ([(False,)] if online else [])
    _deactivate(sides, owner)


def test_a_learner_deleted_meanwhile_is_skipped(sides: Sides) -> None:
    name, other = stem(sides, "deleted"), stem(sides, "staying")
    sides.people(name, other)

    def delete() -> None:
        sides.shape.run(
            "from users.models import User\n"
            f"User.objects.filter(username={name!r}).delete()\nresult = None"
        )

    with meanwhile(sides, ACCOUNTS, delete) as proxy:
        done = sides.json("reconcile", "--kind", "account", "--lms-url", proxy.url)
    assert done["ok"], done
    assert (done["kinds"]["account"]["done"], done["kinds"]["account"]["left"]) == (1, 1)
    assert len(tokens(sides, other)) == 1


def test_an_email_address_that_changed_meanwhile_stays_and_is_a_difference(sides: Sides) -> None:
    name = stem(sides, "newmail")
    sides.people(name)

    def change() -> None:
        sides.shape.run(
            "from users.models import User\n"
            f"User.objects.filter(username={name!r}).update(email={name + '@new.org'!r})\n"
            "result = None"
        )

    with meanwhile(sides, ACCOUNTS, change) as proxy:
        assert sides.json("reconcile", "--kind", "account", "--lms-url", proxy.url)["ok"]
    assert sides.rows("users.User", "email", username=name) == [(f"{name}@new.org",)]
    listed = sides.json("drift", "--kind", "account")["differences"]
    assert [each["difference"] for each in listed if each["what"] == f"{name}@new.org"] == [
        f"the LMS has another e-mail for {name}: {name}@example.org"
    ]
    assert sides.json("reconcile", "--kind", "profile", "--user", name)["ok"]


def test_an_enrollment_deleted_meanwhile_is_ended_in_the_lms(sides: Sides) -> None:
    name, course = stem(sides, "vanishing"), course_of(sides)
    sides.people(name)
    assert sides.json("reconcile")["ok"]
    sides.enroll(name, course, **_mode(sides))

    def delete() -> None:
        sides.shape.run(
            "from courses.models import CourseRunEnrollment\n"
            f"CourseRunEnrollment._base_manager.filter(user__username={name!r}).delete()\n"
            "result = None"
        )

    with meanwhile(sides, ENROLLMENTS, delete) as proxy:
        done = sides.json("reconcile", "--kind", "enrollment", "--lms-url", proxy.url)
    assert done["ok"], done
    assert done["kinds"]["enrollment"]["left"] == 1
    assert sides.enrollments_in_lms(name) == {(course, mode_of(sides), False)}
    assert sides.json("drift", "--kind", "enrollment")["differences"] == []


def test_an_enrollment_that_ended_meanwhile_and_stays_in_the_lms_is_reported(sides: Sides) -> None:
    """No column of the application shows that it must be ended."""
    name, course = stem(sides, "ending"), course_of(sides)
    sides.people(name)
    assert sides.json("reconcile")["ok"]
    sides.enroll(name, course, **_mode(sides))

    def refund() -> None:
        sides.shape.run(
            "from courses.models import CourseRunEnrollment\n"
            f"CourseRunEnrollment._base_manager.filter(user__username={name!r})"
            ".update(active=False, change_status='refunded')\nresult = None"
        )

    with meanwhile(sides, ENROLLMENTS, refund, then=UNAVAILABLE) as proxy:
        done = sides.json("reconcile", "--kind", "enrollment", "--lms-url", proxy.url)
    assert not done["ok"]
    told = [reason["reason"] for reason in done["reasons"] if reason["result"] == "failed"]
    assert len(told) == 1
    assert "where it stays" in told[0]
    listed = sides.json("drift", "--kind", "enrollment")["differences"]
    assert [each["difference"] for each in listed if name in each["what"]] == [
        "enrolled in the LMS; refunded here"
    ]
    sides.enrolled_in_lms(name, course, mode_of(sides), active=False)


def _deactivate(sides: Sides, name: str) -> None:
    sides.shape.run(
        "from users.models import User\n"
        f"User.objects.filter(username={name!r}).update(is_active=False)\nresult = None"
    )
