"""``usher reconcile`` with stand-ins for MITx Online and MIT xPro, and the batch API of
a real embedded LMS."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.sidecar.conftest import System, name_for, without_invalid_rows
from tests.sidecar.test_drift import course_of, mode_of
from usher.sidecar import accounts
from usher.sidecar.adapters.adapter import Lock
from usher.sidecar.adapters.known import adapter_of

#: The application's models of LMS accounts and of tokens.
ACCOUNT = {"mitxonline": "openedx.OpenEdxUser", "mitxpro": "courseware.CoursewareUser"}
TOKEN = {"mitxonline": "openedx.OpenEdxApiAuth", "mitxpro": "courseware.OpenEdxApiAuth"}


def only_for(application: str) -> pytest.MarkDecorator:
    """Runs a test for this application only, since the other one lacks the feature."""
    return pytest.mark.parametrize("application", [application], indirect=True, scope="module")


def tokens_of(system: System, name: str) -> list[Any]:
    """(access token, refresh token) of each token of the learner in the application."""
    return system.rows(
        TOKEN[system.application.name], "access_token", "refresh_token", user__username=name
    )


def test_learners_are_repaired_and_a_second_reconcile_has_nothing_to_do(system: System) -> None:
    names = [name_for(system, f"new{number}") for number in range(30)]
    course = course_of(system)
    system.create_users(*names)
    system.create_enrollment(names[0], course, **mode_field(system))
    system.create_enrollment(names[1], course, **mode_field(system))

    result = system.json("reconcile")

    assert result["ok"], result
    assert result["kinds"]["account"]["done"] == 30
    assert result["kinds"]["enrollment"]["done"] == 2
    assert (course, mode_of(system), True) in system.enrollments_in_lms(names[0])
    rows = system.rows(
        ACCOUNT[system.application.name], "has_been_synced", user__username__in=names
    )
    assert rows == [(True,)] * 30
    assert (
        system.rows("courses.CourseRunEnrollment", "edx_enrolled", user__username__in=names)
        == [(True,)] * 2
    )
    audit = {"enrollment__user__username__in": names}
    assert len(system.rows("courses.CourseRunEnrollmentAudit", "pk", **audit)) == 2
    second_report = system.json("reconcile")
    assert without_invalid_rows(second_report) == {
        "ok": True,
        "kinds": {},
        "waiting": {},
        "new": {},
        "reasons": [],
    }


def mode_field(system: System) -> dict[str, str]:
    return {"enrollment_mode": mode_of(system)} if system.application.name == "mitxonline" else {}


def test_the_lms_accepts_the_created_tokens(system: System) -> None:
    import httpx

    name = name_for(system, "token")
    system.create_users(name)
    assert system.json("reconcile")["ok"]
    ((access, refresh),) = tokens_of(system, name)
    me = httpx.get(
        system.lms.url + "/api/user/v1/me",
        headers={"Authorization": f"Bearer {access}"},
        timeout=30,
    )
    assert me.json()["username"] == name
    refreshed = system.application.run(
        "from users.models import User\n"
        f"from {TOKEN[system.application.name].split('.')[0]}.api import store_tokens\n"
        f"result = store_tokens(User.objects.get(username={name!r})).refresh_token"
    )
    assert refreshed and refreshed != refresh


def test_a_dry_run_counts_and_changes_nothing(system: System) -> None:
    name = name_for(system, "dry")
    system.create_users(name)
    result = system.usher("reconcile", "--dry-run")
    assert result.exit_code == 0
    assert "1 account, 0 enrollments" in result.output
    assert tokens_of(system, name) == []
    system.json("reconcile")  # so that later tests don't find the account due


def test_the_option_user_reconciles_only_that_user(system: System) -> None:
    first, second = name_for(system, "one"), name_for(system, "other")
    system.create_users(first, second)
    result = system.json("reconcile", "--user", f"{first}@example.org")
    assert result["kinds"]["account"]["done"] == 1
    assert len(tokens_of(system, first)) == 1
    assert tokens_of(system, second) == []
    system.json("reconcile")  # so that later tests don't find the second account due


def test_a_refused_learner_is_reported_and_the_others_get_accounts(system: System) -> None:
    name, other = name_for(system, "taken"), name_for(system, "free")
    holder = name_for(system, "holder")
    system.create_accounts_in_lms(holder)
    system.create_users(name, other)
    system.create_enrollment(name, course_of(system), **mode_field(system))
    # In the LMS, the account of ``holder`` has the address that the user has in the application.
    shared_email = name_for(system, "x") + "@e.org"
    system.application.run(
        "from users.models import User\n"
        f"User.objects.filter(username={name!r}).update(email={shared_email!r})\n"
        "result = None"
    )
    system.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"get_user_model().objects.filter(username={holder!r}).update(email={shared_email!r})"
    )
    result = system.usher("reconcile")
    assert result.exit_code == 1
    output = " ".join(result.output.split())
    assert f"{shared_email}: An LMS account with the e-mail address" in output
    assert len(tokens_of(system, other)) == 1
    assert tokens_of(system, name) == []
    # MITx Online records that the account was refused, so the learner's enrollments no longer wait
    # for the account.
    is_waiting = "1 waiting for its learner's account" in result.output
    assert is_waiting == (system.application.name == "mitxpro")
    if system.application.name == "mitxonline":
        # The refusal is in the application's own columns, so neither program tries again.
        given_up = system.json("drift", "--given-up")["given_up"]
        assert [entry for entry in given_up if entry["what"] == shared_email]
        assert system.json("reconcile")["kinds"] == {}
    system.deactivate_users(name)


def test_a_refunded_enrollment_is_not_sent(system: System) -> None:
    name, course = name_for(system, "refunded"), course_of(system)
    system.create_users(name)
    system.create_enrollment(name, course, active=False, change_status="refunded")
    system.json("reconcile")
    assert system.enrollments_in_lms(name) == set()


@only_for("mitxpro")
def test_several_orders_of_one_learner_are_one_enrollment(system: System) -> None:
    name, course = name_for(system, "orders"), course_of(system)
    system.create_users(name)
    system.create_enrollment(name, course)
    system.application.run(
        "from ecommerce.models import Order\nfrom users.models import User\n"
        f"Order.objects.create(pk=77, purchaser=User.objects.get(username={name!r}))\n"
        "result = None"
    )
    system.create_enrollment(name, course, order_id=77)
    number_of_rows = system.json("reconcile")["kinds"]["enrollment"]["done"]
    assert number_of_rows == 2  # one row of the application for each order
    assert len(system.enrollments_in_lms(name)) == 1


def test_a_run_that_the_lms_does_not_have_is_refused_and_counted(system: System) -> None:
    name = name_for(system, "norun")
    system.create_users(name)
    system.create_enrollment(name, "course-v1:no+such+run")
    result = without_invalid_rows(system.json("reconcile"))
    assert result["kinds"]["enrollment"]["refused"] == 1
    (reason,) = result["reasons"]
    assert "No course 'course-v1:no+such+run' found" in reason["reason"]
    if system.application.name == "mitxonline":
        count = system.rows(
            "courses.CourseRunEnrollment", "edx_enrollment_retry_count", user__username=name
        )
        assert count == [(1,)]
    system.deactivate_enrollments(name)


@only_for("mitxonline")
def test_a_username_that_another_person_has_in_the_lms_is_replaced(system: System) -> None:
    name = name_for(system, "common")
    system.create_users(name)
    system.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"get_user_model().objects.create_user({name!r}, 'somebody@else.org')"
    )
    assert system.json("reconcile")["ok"]
    ((username, has_account),) = system.rows(
        "openedx.OpenEdxUser", "edx_username", "has_been_synced", user__username=name
    )
    assert has_account
    assert username != name
    assert username.startswith(name[:5])


@only_for("mitxonline")
def test_a_learner_whose_lock_the_application_holds_is_skipped(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, other = name_for(system, "held"), name_for(system, "unheld")
    system.create_users(name, other)
    holder = subprocess.Popen(
        [sys.executable, "manage.py", "shell", "-c", _HOLD_LOCK.format(name=name)],
        cwd=system.application.folder,
        env=system.application.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout and holder.stdin
    assert "held\n" in holder.stdout
    with monkeypatch.context() as patched:
        # The command does not wait until the lock expires.
        seconds_of_lock = lock_of_application(system).expire_seconds
        patched.setattr(accounts, "SECONDS_AFTER_EXPIRY", -seconds_of_lock)
        result = system.json("reconcile")
    assert result["kinds"]["account"]["skipped"] == 1
    assert tokens_of(system, name) == []
    assert len(tokens_of(system, other)) == 1

    def release_lock(_: float) -> None:
        assert holder.stdin
        holder.stdin.close()
        holder.wait()

    # A killed command may have left the lock, so ``reconcile`` waits until locks have ended. In the
    # test, this wait releases the lock.
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=release_lock)
    monkeypatch.setattr(accounts, "time", clock)
    result_after_release = system.usher("reconcile", "--json")
    numbers = json.loads(result_after_release.stdout)["kinds"]["account"]
    assert (numbers["done"], numbers["skipped"]) == (1, 0)
    assert "1 learner is locked" in result_after_release.stderr


def lock_of_application(system: System) -> Lock:
    lock = adapter_of(system.application.name).lock
    assert lock is not None
    return lock


#: Takes the lock under which MITx Online creates the learner's account. Ends when its input ends.
_HOLD_LOCK = """
import sys
from main.utils import get_redis_lock
lock = get_redis_lock("openedx-create-user-lock.id-of-{name}", expire=60)
assert lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@only_for("mitxonline")
def test_learners_without_an_id_share_a_lock_and_all_get_accounts(system: System) -> None:
    """The application's own code gives the locks of all learners without an id the same name."""
    names = [name_for(system, f"noid{number}") for number in range(4)]
    system.create_users(*names, global_id=None)
    assert system.json("reconcile", "--kind", "account")["kinds"]["account"]["done"] == 4


def test_reconcile_completes_the_work_of_killed_commands(system: System) -> None:
    prefix = name_for(system, "killed")
    names = [f"{prefix}{number}" for number in range(250)]
    system.create_users(*names)
    command = reconcile_command(system)
    # The command is killed at different points of its work.
    for seconds in (1.0, 1.6, 2.2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    for _ in range(20):  # the agent of a killed command may keep its locks for a moment
        if not system.json("reconcile")["kinds"]:
            break
    assert len(system.rows(TOKEN[system.application.name], "pk", user__username__in=names)) == 250
    accounts = system.rows(ACCOUNT[system.application.name], "pk", user__username__in=names)
    assert len(accounts) == 250
    number_in_lms = system.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"print(get_user_model().objects.filter(username__startswith={prefix!r}).count())"
    )
    assert number_in_lms == "250"


def test_the_sidecar_and_the_application_may_enroll_at_the_same_time(system: System) -> None:
    """The application's own retry and the sidecar process the same rows, and no update is lost."""
    names, course = [name_for(system, f"both{number}") for number in range(40)], course_of(system)
    system.create_users(*names)
    assert system.json("reconcile")["ok"]
    for name in names:
        system.create_enrollment(name, course, **mode_field(system))
    application_process = subprocess.Popen(
        [sys.executable, "manage.py", "retry_edx_enrollment"],
        cwd=system.application.folder,
        env=system.application.environment(),
    )
    result = system.json("reconcile")
    assert application_process.wait(timeout=120) == 0
    assert result["ok"], result
    rows = system.rows("courses.CourseRunEnrollment", "edx_enrolled", user__username__in=names)
    assert rows == [(True,)] * 40
    for name in names:
        assert system.enrollments_in_lms(name) == {(course, mode_of(system), True)}
    assert without_invalid_rows(system.json("reconcile"))["kinds"] == {}


def test_watching_continues_after_the_application_s_process_is_killed(system: System) -> None:
    watcher = subprocess.Popen(
        reconcile_command(system, "--watch"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        first, second = name_for(system, "watched"), name_for(system, "later")
        system.create_users(first)
        wait_until(lambda: len(tokens_of(system, first)) == 1)
        # The application's process is killed, as when its container is re-created.
        (agent,) = child_processes(watcher.pid)
        os.kill(agent, signal.SIGKILL)
        system.create_users(second)
        wait_until(lambda: len(tokens_of(system, second)) == 1)
    finally:
        watcher.kill()
        watcher.wait()


def reconcile_command(system: System, *options: str) -> list[str]:
    """The command line of ``usher reconcile`` for another process, with these further options."""
    folder, manage = str(system.application.folder), system.application.manage_command
    command = [sys.executable, "-m", "usher.cli.main", "reconcile"]
    return [*command, "--application", folder, "--manage", manage, *options]


def child_processes(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.2)
