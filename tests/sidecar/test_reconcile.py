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

from tests.sidecar.conftest import System, without_invalid
from tests.sidecar.test_drift import course_of, mode_of
from usher.sidecar import accounts
from usher.sidecar.adapters.adapter import Lock
from usher.sidecar.adapters.known import adapter_of

ACCOUNT = {"mitxonline": "openedx.OpenEdxUser", "mitxpro": "courseware.CoursewareUser"}
TOKEN = {"mitxonline": "openedx.OpenEdxApiAuth", "mitxpro": "courseware.OpenEdxApiAuth"}


def only_for(application: str) -> pytest.MarkDecorator:
    """Runs a test for this application only, since the other one lacks the feature."""
    return pytest.mark.parametrize("application", [application], indirect=True, scope="module")


def name_for(system: System, word: str) -> str:
    """A username that the other application's tests in the same LMS don't use."""
    return f"{system.application.name[:5]}{word}"


def tokens(system: System, name: str) -> list[Any]:
    """(access token, refresh token) of each token of the learner in the application."""
    return system.rows(
        TOKEN[system.application.name], "access_token", "refresh_token", user__username=name
    )


def test_learners_are_repaired_and_a_second_run_has_nothing_to_do(system: System) -> None:
    names = [name_for(system, f"new{number}") for number in range(30)]
    course = course_of(system)
    system.people(*names)
    system.enroll(names[0], course, **_mode(system))
    system.enroll(names[1], course, **_mode(system))

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
    assert len(system.rows("courses.CourseRunEnrollmentAudit", "pk")) >= 2
    again = system.json("reconcile")
    assert without_invalid(again) == {
        "ok": True,
        "kinds": {},
        "waiting": {},
        "new": {},
        "reasons": [],
    }


def _mode(system: System) -> dict[str, str]:
    return {"enrollment_mode": mode_of(system)} if system.application.name == "mitxonline" else {}


def test_the_tokens_are_good_at_the_lms(system: System) -> None:
    import httpx

    name = name_for(system, "token")
    system.people(name)
    assert system.json("reconcile")["ok"]
    ((access, refresh),) = tokens(system, name)
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
    system.people(name)
    result = system.usher("reconcile", "--dry-run")
    assert result.exit_code == 0
    assert "1 account, 0 enrollments" in result.output
    assert tokens(system, name) == []
    system.json("reconcile")


def test_one_user_alone_is_reconciled(system: System) -> None:
    first, second = name_for(system, "one"), name_for(system, "other")
    system.people(first, second)
    result = system.json("reconcile", "--user", f"{first}@example.org")
    assert result["kinds"]["account"]["done"] == 1
    assert len(tokens(system, first)) == 1
    assert tokens(system, second) == []
    system.json("reconcile")


def test_a_refused_learner_is_reported_and_the_others_get_accounts(system: System) -> None:
    name, other = name_for(system, "taken"), name_for(system, "free")
    system.accounts_in_lms(name_for(system, "holder"))
    system.people(name, other)
    system.enroll(name, course_of(system), **_mode(system))
    other_email = name_for(system, "x") + "@e.org"
    system.application.run(
        "from users.models import User\n"
        f"User.objects.filter(username={name!r}).update(email={other_email!r})\n"
        "result = None"
    )
    system.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"get_user_model().objects.filter(username={name_for(system, 'holder')!r})"
        f".update(email={other_email!r})"
    )
    run = system.usher("reconcile")
    assert run.exit_code == 1
    assert f"{name_for(system, 'x')}@e.org: An LMS account with the e-mail address" in " ".join(
        run.output.split()
    )
    assert len(tokens(system, other)) == 1
    assert tokens(system, name) == []
    # MITx Online records that the account was refused, so the learner's enrollments no longer wait
    # for the account.
    waits = "1 waiting for its learner's account" in run.output
    assert waits == (system.application.name == "mitxpro")
    if system.application.name == "mitxonline":
        # The refusal is in the application's own columns, so neither program tries again.
        given_up = system.json("drift", "--given-up")["given_up"]
        assert [e for e in given_up if e["what"] == f"{name_for(system, 'x')}@e.org"]
        assert system.json("reconcile")["kinds"] == {}
    system.application.run(
        f"from users.models import User\nUser.objects.filter(username={name!r})"
        ".update(is_active=False)\nresult = None"
    )


def test_refunded_and_given_up_enrollments_are_not_sent(system: System) -> None:
    name, course = name_for(system, "refunded"), course_of(system)
    system.people(name)
    system.enroll(name, course, active=False, change_status="refunded")
    system.json("reconcile")
    assert system.enrollments_in_lms(name) == set()


@only_for("mitxpro")
def test_several_orders_of_one_learner_are_one_enrollment(system: System) -> None:
    name, course = name_for(system, "orders"), course_of(system)
    system.people(name)
    system.enroll(name, course)
    system.application.run(
        "from ecommerce.models import Order\nfrom users.models import User\n"
        f"Order.objects.create(pk=77, purchaser=User.objects.get(username={name!r}))\n"
        "result = None"
    )
    system.enroll(name, course, order_id=77)
    assert system.json("reconcile")["kinds"]["enrollment"]["done"] == 2
    assert len(system.enrollments_in_lms(name)) == 1


def test_a_run_that_the_lms_does_not_have_is_refused_and_counted(system: System) -> None:
    name = name_for(system, "norun")
    system.people(name)
    system.enroll(name, "course-v1:no+such+run")
    result = without_invalid(system.json("reconcile"))
    assert result["kinds"]["enrollment"]["refused"] == 1
    (reason,) = result["reasons"]
    assert "No course 'course-v1:no+such+run' found" in reason["reason"]
    if system.application.name == "mitxonline":
        count = system.rows(
            "courses.CourseRunEnrollment", "edx_enrollment_retry_count", user__username=name
        )
        assert count == [(1,)]
    system.application.run(
        "from courses.models import CourseRunEnrollment\n"
        f"CourseRunEnrollment.objects.filter(user__username={name!r}).update(active=False)\n"
        "result = None"
    )


@only_for("mitxonline")
def test_a_name_that_another_person_has_in_the_lms_is_replaced(system: System) -> None:
    name = name_for(system, "common")
    system.people(name)
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
def test_a_learner_whom_the_application_is_creating_is_left_to_the_application(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, other = name_for(system, "held"), name_for(system, "unheld")
    system.people(name, other)
    holder = subprocess.Popen(
        [sys.executable, "manage.py", "shell", "-c", _HOLD.format(name=name)],
        cwd=system.application.folder,
        env=system.application.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout and holder.stdin
    assert "held\n" in holder.stdout
    with monkeypatch.context() as patched:
        patched.setattr(accounts, "SECONDS_AFTER_EXPIRY", -lock_of_application(system).expire)
        result = system.json("reconcile")
    assert result["kinds"]["account"]["skipped"] == 1
    assert tokens(system, name) == []
    assert len(tokens(system, other)) == 1

    def let_go(_: float) -> None:
        assert holder.stdin
        holder.stdin.close()
        holder.wait()

    # The lock may have been left by a killed run, so the command waits until locks have ended.
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=let_go)
    monkeypatch.setattr(accounts, "time", clock)
    run = system.usher("reconcile", "--json")
    numbers = json.loads(run.stdout)["kinds"]["account"]
    assert (numbers["done"], numbers["skipped"]) == (1, 0)
    assert "1 learners are locked" in run.stderr


def lock_of_application(system: System) -> Lock:
    lock = adapter_of(system.application.name).lock
    assert lock is not None
    return lock


_HOLD = """
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
    system.people(*names, global_id=None)
    assert system.json("reconcile", "--kind", "account")["kinds"]["account"]["done"] == 4


def test_the_run_after_a_killed_one_completes_it(system: System) -> None:
    names = [name_for(system, f"killed{number}") for number in range(250)]
    system.people(*names)
    command = _command(system)
    for moment in (1.0, 1.6, 2.2):
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moment)
        run.send_signal(signal.SIGKILL)
        run.wait()
    for _ in range(20):  # the agent of the killed run may keep its locks for a moment
        if not system.json("reconcile")["kinds"]:
            break
    assert len(system.rows(TOKEN[system.application.name], "pk", user__username__in=names)) == 250
    account = system.rows(ACCOUNT[system.application.name], "pk", user__username__in=names)
    assert len(account) == 250
    made = system.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"print(get_user_model().objects.filter(username__startswith={names[0][:-1]!r}).count())"
    )
    assert made == "250"


def test_the_sidecar_and_the_application_may_enroll_at_the_same_time(system: System) -> None:
    """The application's own retry and the sidecar process the same rows, and no update is lost."""
    names, course = [name_for(system, f"both{number}") for number in range(40)], course_of(system)
    system.people(*names)
    assert system.json("reconcile")["ok"]
    for name in names:
        system.enroll(name, course, **_mode(system))
    own = subprocess.Popen(
        [sys.executable, "manage.py", "retry_edx_enrollment"],
        cwd=system.application.folder,
        env=system.application.environment(),
    )
    result = system.json("reconcile")
    assert own.wait(timeout=120) == 0
    assert result["ok"], result
    rows = system.rows("courses.CourseRunEnrollment", "edx_enrolled", user__username__in=names)
    assert rows == [(True,)] * 40
    for name in names:
        assert system.enrollments_in_lms(name) == {(course, mode_of(system), True)}
    assert without_invalid(system.json("reconcile"))["kinds"] == {}


def test_watching_repairs_what_becomes_due_and_survives_the_application(system: System) -> None:
    watcher = subprocess.Popen(
        _command(system, "--watch"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        first, second = name_for(system, "watched"), name_for(system, "later")
        system.people(first)
        _until(lambda: len(tokens(system, first)) == 1)
        # The application's process is killed, as when its container is re-created.
        (agent,) = _children(watcher.pid)
        os.kill(agent, signal.SIGKILL)
        system.people(second)
        _until(lambda: len(tokens(system, second)) == 1)
    finally:
        watcher.kill()
        watcher.wait()


def _command(system: System, *more: str) -> list[str]:
    """The command line of ``usher reconcile`` for another process."""
    folder, manage = str(system.application.folder), system.application.command
    command = [sys.executable, "-m", "usher.cli.main", "reconcile"]
    return [*command, "--application", folder, "--manage", manage, *more]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _until(is_so: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.2)
