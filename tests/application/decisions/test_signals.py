"""Signals about the results of records in a real embedded LMS."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail
from django.core.cache import cache

from usher.application import signals
from usher.application.accounts.services import deactivate
from usher.application.enrollments.services import enroll
from usher.application.runs.services import ensure_run
from usher.engine.services import reconcile

DEMO = "course-v1:edX+DemoX+Demo_Course"


@pytest.fixture
def heard() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    names = ("account_ready", "enrollment_settled", "refused", "learner_deactivated")
    for name in names:

        def listen(_name: str = name, **told: Any) -> None:
            found.append((_name, told))

        getattr(signals, name).connect(listen, weak=False, dispatch_uid=f"test {name}")
    yield found
    for name in names:
        getattr(signals, name).disconnect(dispatch_uid=f"test {name}")


def test_an_account_and_an_enrollment_that_are_settled_say_so_once(joined: Any, heard: Any) -> None:
    user, run = joined.learner(), ensure_run(DEMO)
    row = enroll(user, run, reconcile_now=True)
    assert [name for name, _ in heard] == ["account_ready", "enrollment_settled"]
    assert heard[0][1]["user"] == user
    assert heard[0][1]["account"].is_ready
    assert heard[1][1]["enrollment"] == row
    assert heard[1][1]["run"] == run
    assert heard[1][1]["changed"] is True
    enroll(user, run, reconcile_now=True)
    assert len(heard) == 2


def test_a_refusal_is_signalled_with_its_reason(joined: Any, heard: Any, settings: Any) -> None:
    settings.USHER_DIGEST_MINUTES = 0
    settings.MANAGERS = [("Staff", "staff@example.org")]
    cache.delete("usher-refusals-mailed")
    user = joined.learner()
    row = enroll(user, ensure_run("course-v1:edX+Nowhere+1"), reconcile_now=True)
    told = dict(heard)["refused"]
    assert (told["kind"], told["user"], told["row"]) == ("enrollment", user, row)
    assert (told["code"], told["message"]) == (row.error_code, row.error_message)
    assert "Nowhere" in mail.outbox[-1].body
    cache.delete("usher-refusals-mailed")


def test_a_deactivation_is_signalled(joined: Any, heard: Any) -> None:
    user, run = joined.learner(), ensure_run(DEMO)
    enroll(user, run, reconcile_now=True)
    heard.clear()
    joined.lms.shell(
        "from django.contrib.auth.models import User; "
        f"User.objects.filter(username={user.lms_account.username!r}).update(is_active=False)"
    )
    deactivate(user)
    reconcile(["account"], user=user)
    told = dict(heard)["learner_deactivated"]
    assert (told["user"], told["wanted"]) == (user, True)


def test_a_receiver_that_fails_harms_nothing(joined: Any) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("a receiver's own mistake")

    signals.enrollment_settled.connect(fail, weak=False, dispatch_uid="test failing")
    try:
        assert enroll(joined.learner(), ensure_run(DEMO), reconcile_now=True).is_settled
    finally:
        signals.enrollment_settled.disconnect(dispatch_uid="test failing")
