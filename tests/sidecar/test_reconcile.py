"""``usher reconcile`` with applications shaped like MITx Online and MIT xPro, and the batch API of
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

from tests.sidecar.conftest import Sides
from tests.sidecar.test_drift import course_of, mode_of
from usher.sidecar import accounts
from usher.sidecar.adapters.adapter import Lock
from usher.sidecar.adapters.known import adapter_of

ACCOUNT = {"mitxonline": "openedx.OpenEdxUser", "mitxpro": "courseware.CoursewareUser"}
TOKEN = {"mitxonline": "openedx.OpenEdxApiAuth", "mitxpro": "courseware.OpenEdxApiAuth"}


def only(shape: str) -> pytest.MarkDecorator:
    """Skips a test for the other application, which lacks the feature."""
    return pytest.mark.parametrize("shape", [shape], indirect=True, scope="module")


def stem(sides: Sides, word: str) -> str:
    return f"{sides.shape.name[:5]}{word}"


def tokens(sides: Sides, name: str) -> list[Any]:
    return sides.rows(TOKEN[sides.shape.name], "access_token", "refresh_token", user__username=name)


def test_learners_are_repaired_and_a_second_run_has_nothing_to_do(sides: Sides) -> None:
    names = [stem(sides, f"new{number}") for number in range(30)]
    course = course_of(sides)
    sides.people(*names)
    sides.enroll(names[0], course, **_mode(sides))
    sides.enroll(names[1], course, **_mode(sides))

    done = sides.json("reconcile")

    assert done["ok"], done
    assert done["kinds"]["account"]["done"] == 30
    assert done["kinds"]["enrollment"]["done"] == 2
    assert (course, mode_of(sides), True) in sides.enrollments_in_lms(names[0])
    made = sides.rows(ACCOUNT[sides.shape.name], "has_been_synced", user__username__in=names)
    assert made == [(True,)] * 30
    assert (
        sides.rows("courses.CourseRunEnrollment", "edx_enrolled", user__username__in=names)
        == [(True,)] * 2
    )
    assert len(sides.rows("courses.CourseRunEnrollmentAudit", "pk")) >= 2
    again = sides.json("reconcile")
    assert again == {"ok": True, "kinds": {}, "waiting": {}, "reasons": []}


def _mode(sides: Sides) -> dict[str, str]:
    return {"enrollment_mode": mode_of(sides)} if sides.shape.name == "mitxonline" else {}


def test_the_tokens_are_good_at_the_lms(sides: Sides) -> None:
    import httpx

    name = stem(sides, "token")
    sides.people(name)
    assert sides.json("reconcile")["ok"]
    ((access, refresh),) = tokens(sides, name)
    me = httpx.get(
        sides.lms.url + "/api/user/v1/me", headers={"Authorization": f"Bearer {access}"}, timeout=30
    )
    assert me.json()["username"] == name
    refreshed = sides.shape.run(
        "from users.models import User\n"
        f"from {TOKEN[sides.shape.name].split('.')[0]}.api import store_tokens\n"
        f"result = store_tokens(User.objects.get(username={name!r})).refresh_token"
    )
    assert refreshed and refreshed != refresh


def test_a_dry_run_counts_and_changes_nothing(sides: Sides) -> None:
    name = stem(sides, "dry")
    sides.people(name)
    done = sides.usher("reconcile", "--dry-run")
    assert done.exit_code == 0
    assert "1 account, 0 enrollments" in done.output
    assert tokens(sides, name) == []
    sides.json("reconcile")


def test_one_user_alone_is_reconciled(sides: Sides) -> None:
    first, second = stem(sides, "one"), stem(sides, "other")
    sides.people(first, second)
    done = sides.json("reconcile", "--user", f"{first}@example.org")
    assert done["kinds"]["account"]["done"] == 1
    assert len(tokens(sides, first)) == 1
    assert tokens(sides, second) == []
    sides.json("reconcile")


def test_a_refused_learner_is_reported_and_the_others_get_accounts(sides: Sides) -> None:
    name, other = stem(sides, "taken"), stem(sides, "free")
    sides.accounts_in_lms(stem(sides, "holder"))
    sides.people(name, other)
    sides.enroll(name, course_of(sides), **_mode(sides))
    sides.shape.run(
        "from users.models import User\n"
        f"User.objects.filter(username={name!r}).update(email={stem(sides, 'x') + '@e.org'!r})\n"
        "result = None"
    )
    sides.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"get_user_model().objects.filter(username={stem(sides, 'holder')!r})"
        f".update(email={stem(sides, 'x') + '@e.org'!r})"
    )
    run = sides.usher("reconcile")
    assert run.exit_code == 1
    assert f"{stem(sides, 'x')}@e.org: An LMS account with the e-mail address" in " ".join(
        run.output.split()
    )
    assert len(tokens(sides, other)) == 1
    assert tokens(sides, name) == []
    # MITx Online records that the account was refused, so its enrollments no longer wait for it.
    waits = "1 waiting for its learner's account" in run.output
    assert waits == (sides.shape.name == "mitxpro")
    if sides.shape.name == "mitxonline":
        # Recorded in the application's own columns, so that nobody tries it for ever.
        told = sides.json("drift", "--given-up")["given_up"]
        assert [e for e in told if e["what"] == f"{stem(sides, 'x')}@e.org"]
        assert sides.json("reconcile")["kinds"] == {}
    sides.shape.run(
        f"from users.models import User\nUser.objects.filter(username={name!r})"
        ".update(is_active=False)\nresult = None"
    )


def test_refunded_and_given_up_enrollments_are_not_sent(sides: Sides) -> None:
    name, course = stem(sides, "refunded"), course_of(sides)
    sides.people(name)
    sides.enroll(name, course, active=False, change_status="refunded")
    sides.json("reconcile")
    assert sides.enrollments_in_lms(name) == set()


@only("mitxpro")
def test_several_orders_of_one_learner_are_one_enrollment(sides: Sides) -> None:
    name, course = stem(sides, "orders"), course_of(sides)
    sides.people(name)
    sides.enroll(name, course)
    sides.shape.run(
        "from ecommerce.models import Order\nfrom users.models import User\n"
        f"Order.objects.create(pk=77, purchaser=User.objects.get(username={name!r}))\n"
        "result = None"
    )
    sides.enroll(name, course, order_id=77)
    assert sides.json("reconcile")["kinds"]["enrollment"]["done"] == 2
    assert len(sides.enrollments_in_lms(name)) == 1


def test_a_run_that_the_lms_does_not_have_is_refused_and_counted(sides: Sides) -> None:
    name = stem(sides, "norun")
    sides.people(name)
    sides.enroll(name, "course-v1:no+such+run")
    done = sides.json("reconcile")
    assert done["kinds"]["enrollment"]["refused"] == 1
    (reason,) = done["reasons"]
    assert "No course 'course-v1:no+such+run' found" in reason["reason"]
    if sides.shape.name == "mitxonline":
        count = sides.rows(
            "courses.CourseRunEnrollment", "edx_enrollment_retry_count", user__username=name
        )
        assert count == [(1,)]
    sides.shape.run(
        "from courses.models import CourseRunEnrollment\n"
        f"CourseRunEnrollment.objects.filter(user__username={name!r}).update(active=False)\n"
        "result = None"
    )


@only("mitxonline")
def test_a_name_that_another_person_has_in_the_lms_is_replaced(sides: Sides) -> None:
    name = stem(sides, "common")
    sides.people(name)
    sides.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"get_user_model().objects.create_user({name!r}, 'somebody@else.org')"
    )
    assert sides.json("reconcile")["ok"]
    ((given, made),) = sides.rows(
        "openedx.OpenEdxUser", "edx_username", "has_been_synced", user__username=name
    )
    assert made
    assert given != name
    assert given.startswith(name[:5])


@only("mitxonline")
def test_a_learner_whom_the_application_is_making_is_left_to_it(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, other = stem(sides, "held"), stem(sides, "unheld")
    sides.people(name, other)
    holder = subprocess.Popen(
        [sys.executable, "manage.py", "shell", "-c", _HOLD.format(name=name)],
        cwd=sides.shape.folder,
        env=sides.shape.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout and holder.stdin
    assert "held\n" in holder.stdout
    with monkeypatch.context() as patched:
        patched.setattr(accounts, "EXPIRED", -sides_lock(sides).expire)
        done = sides.json("reconcile")
    assert done["kinds"]["account"]["left"] == 1
    assert tokens(sides, name) == []
    assert len(tokens(sides, other)) == 1

    def let_go(_: float) -> None:
        assert holder.stdin
        holder.stdin.close()
        holder.wait()

    # A run that was killed leaves its locks behind; the next one waits until they end.
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=let_go)
    monkeypatch.setattr(accounts, "time", clock)
    run = sides.usher("reconcile", "--json")
    numbers = json.loads(run.stdout)["kinds"]["account"]
    assert (numbers["done"], numbers["left"]) == (1, 0)
    assert "1 learners are locked" in run.stderr


def sides_lock(sides: Sides) -> Lock:
    found = adapter_of(sides.shape.name).lock
    assert found is not None
    return found


_HOLD = """
import sys
from main.utils import get_redis_lock
lock = get_redis_lock("openedx-create-user-lock.id-of-{name}", expire=60)
assert lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@only("mitxonline")
def test_learners_without_an_id_share_a_lock_and_all_are_made(sides: Sides) -> None:
    """The application's own code gives all their locks the same name."""
    names = [stem(sides, f"noid{number}") for number in range(4)]
    sides.people(*names, global_id=None)
    assert sides.json("reconcile", "--kind", "account")["kinds"]["account"]["done"] == 4


def test_killed_at_any_moment_the_next_run_finishes_it(sides: Sides) -> None:
    names = [stem(sides, f"killed{number}") for number in range(250)]
    sides.people(*names)
    command = _command(sides)
    for moment in (1.0, 1.6, 2.2):
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moment)
        run.send_signal(signal.SIGKILL)
        run.wait()
    for _ in range(20):  # the agent of the killed run may keep its locks for a moment
        if not sides.json("reconcile")["kinds"]:
            break
    assert len(sides.rows(TOKEN[sides.shape.name], "pk", user__username__in=names)) == 250
    account = sides.rows(ACCOUNT[sides.shape.name], "pk", user__username__in=names)
    assert len(account) == 250
    made = sides.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"print(get_user_model().objects.filter(username__startswith={names[0][:-1]!r}).count())"
    )
    assert made == "250"


def test_both_may_enroll_at_the_same_time(sides: Sides) -> None:
    """The application's own retry and the sidecar: every row once, no update lost."""
    names, course = [stem(sides, f"both{number}") for number in range(40)], course_of(sides)
    sides.people(*names)
    assert sides.json("reconcile")["ok"]
    for name in names:
        sides.enroll(name, course, **_mode(sides))
    own = subprocess.Popen(
        [sys.executable, "manage.py", "retry_edx_enrollment"],
        cwd=sides.shape.folder,
        env=sides.shape.environment(),
    )
    done = sides.json("reconcile")
    assert own.wait(timeout=120) == 0
    assert done["ok"], done
    rows = sides.rows("courses.CourseRunEnrollment", "edx_enrolled", user__username__in=names)
    assert rows == [(True,)] * 40
    for name in names:
        assert sides.enrollments_in_lms(name) == {(course, mode_of(sides), True)}
    assert sides.json("reconcile")["kinds"] == {}


def test_watching_repairs_what_becomes_due_and_survives_the_application(sides: Sides) -> None:
    watcher = subprocess.Popen(
        _command(sides, "--watch"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        first, second = stem(sides, "watched"), stem(sides, "later")
        sides.people(first)
        _until(lambda: len(tokens(sides, first)) == 1)
        # The application's process is killed, as when its container is re-created.
        (agent,) = _children(watcher.pid)
        os.kill(agent, signal.SIGKILL)
        sides.people(second)
        _until(lambda: len(tokens(sides, second)) == 1)
    finally:
        watcher.kill()
        watcher.wait()


def _command(sides: Sides, *more: str) -> list[str]:
    """Starts ``usher reconcile`` in another process."""
    folder, manage = str(sides.shape.folder), sides.shape.command
    command = [sys.executable, "-m", "usher.cli.main", "reconcile"]
    return [*command, "--application", folder, "--manage", manage, *more]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _until(is_so: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.2)
