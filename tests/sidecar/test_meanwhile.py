"""Rows that the application changes while the LMS processes their batch: the application's change
is kept, and enrollments in the LMS that are no longer desired are ended or reported."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.sidecar.conftest import System, name_for
from tests.sidecar.test_drift import course_of, mode_of
from tests.sidecar.test_reconcile import ACCOUNT, mode_field, tokens_of
from tests.support.faults import UNAVAILABLE, FaultyProxy, faulty_proxy

ACCOUNTS, ENROLLMENTS = "/usher/api/v1/accounts/", "/usher/api/v1/enrollments/"


@contextmanager
def changing_during_request(
    system: System, path: str, change: Callable[[], object], later_fault: str = ""
) -> Iterator[FaultyProxy]:
    """A proxy that calls ``change`` before it forwards the first POST to ``path``.

    change: a function that changes a row in the application. later_fault: the fault that later
    POSTs to ``path`` get.
    """
    is_changed = threading.Event()
    with faulty_proxy(system.lms.url) as proxy:

        def decide(method: str, requested_path: str) -> str:
            if method != "POST" or not requested_path.startswith(path):
                return ""
            if is_changed.is_set():
                return later_fault
            is_changed.set()
            change()
            return ""

        proxy.decide = decide
        yield proxy


def test_no_account_is_recorded_for_a_learner_renamed_during_the_request(system: System) -> None:
    """Account and token belong to the old name, which is no longer the learner's."""
    name, is_mitxonline = name_for(system, "renamed"), system.application.name == "mitxonline"
    system.create_users(name)
    new_name = name + "x"
    if is_mitxonline:  # where the LMS's username is in a table of its own
        module, model, column = "openedx", "OpenEdxUser", "edx_username"
    else:
        module, model, column = "users", "User", "username"

    def rename() -> None:
        number_of_changed_rows = system.application.run(
            f"from {module}.models import {model}\n"
            f"rows = {model}.objects.filter({column}={name!r})\n"
            f"result = rows.update({column}={new_name!r})"
        )
        assert number_of_changed_rows == 1

    with changing_during_request(system, ACCOUNTS, rename) as proxy:
        result = system.json("reconcile", "--kind", "account", "--lms-url", proxy.url)
    assert result["kinds"]["account"]["skipped"] == 1, result
    (reason,) = result["reasons"]
    assert "the application's row is changed" in reason["reason"]
    owner = name if is_mitxonline else new_name
    assert tokens_of(system, owner) == []
    rows = system.rows(ACCOUNT[system.application.name], "has_been_synced", user__username=owner)
    assert rows == ([(False,)] if is_mitxonline else [])
    # The account stays unrecorded. Otherwise later tests would find it due.
    system.deactivate_users(owner)


def test_a_learner_deleted_during_the_request_is_skipped(system: System) -> None:
    name, other = name_for(system, "deleted"), name_for(system, "staying")
    system.create_users(name, other)

    def delete() -> None:
        system.application.run(
            "from users.models import User\n"
            f"User.objects.filter(username={name!r}).delete()\nresult = None"
        )

    with changing_during_request(system, ACCOUNTS, delete) as proxy:
        result = system.json("reconcile", "--kind", "account", "--lms-url", proxy.url)
    assert result["ok"], result
    assert (result["kinds"]["account"]["done"], result["kinds"]["account"]["skipped"]) == (1, 1)
    assert len(tokens_of(system, other)) == 1


def test_an_email_address_changed_during_the_request_is_kept_and_listed_by_drift(
    system: System,
) -> None:
    name = name_for(system, "newmail")
    system.create_users(name)

    def change() -> None:
        system.application.run(
            "from users.models import User\n"
            f"User.objects.filter(username={name!r}).update(email={name + '@new.org'!r})\n"
            "result = None"
        )

    with changing_during_request(system, ACCOUNTS, change) as proxy:
        assert system.json("reconcile", "--kind", "account", "--lms-url", proxy.url)["ok"]
    assert system.rows("users.User", "email", username=name) == [(f"{name}@new.org",)]
    listed = system.json("drift", "--kind", "account")["differences"]
    assert [each["difference"] for each in listed if each["what"] == f"{name}@new.org"] == [
        f"the LMS has another e-mail for {name}: {name}@example.org"
    ]
    # Otherwise the address would also be a difference in later tests.
    assert system.json("reconcile", "--kind", "profile", "--user", name)["ok"]


def test_an_enrollment_deleted_during_the_request_is_ended_in_the_lms(system: System) -> None:
    name, course = name_for(system, "vanishing"), course_of(system)
    system.create_users(name)
    assert system.json("reconcile")["ok"]
    system.create_enrollment(name, course, **mode_field(system))

    def delete() -> None:
        system.application.run(
            "from courses.models import CourseRunEnrollment\n"
            f"CourseRunEnrollment._base_manager.filter(user__username={name!r}).delete()\n"
            "result = None"
        )

    with changing_during_request(system, ENROLLMENTS, delete) as proxy:
        result = system.json("reconcile", "--kind", "enrollment", "--lms-url", proxy.url)
    assert result["ok"], result
    assert result["kinds"]["enrollment"]["skipped"] == 1
    assert system.enrollments_in_lms(name) == {(course, mode_of(system), False)}
    assert system.json("drift", "--kind", "enrollment")["differences"] == []


def test_an_enrollment_ended_during_the_request_is_reported_if_it_stays_active_in_the_lms(
    system: System,
) -> None:
    """The request that ends the enrollment in the LMS fails. No column of the application shows
    that the enrollment must still be ended, so only the report tells the operator."""
    name, course = name_for(system, "ending"), course_of(system)
    system.create_users(name)
    assert system.json("reconcile")["ok"]
    system.create_enrollment(name, course, **mode_field(system))

    def refund() -> None:
        system.application.run(
            "from courses.models import CourseRunEnrollment\n"
            f"CourseRunEnrollment._base_manager.filter(user__username={name!r})"
            ".update(active=False, change_status='refunded')\nresult = None"
        )

    with changing_during_request(system, ENROLLMENTS, refund, later_fault=UNAVAILABLE) as proxy:
        result = system.json("reconcile", "--kind", "enrollment", "--lms-url", proxy.url)
    assert not result["ok"]
    failures = [reason["reason"] for reason in result["reasons"] if reason["result"] == "failed"]
    assert len(failures) == 1
    assert "where it is still active" in failures[0]
    listed = system.json("drift", "--kind", "enrollment")["differences"]
    assert [each["difference"] for each in listed if name in each["what"]] == [
        "enrolled in the LMS; refunded here"
    ]
    # Otherwise the enrollment would also be a difference in later tests.
    system.set_enrollment_in_lms(name, course, mode_of(system), active=False)
