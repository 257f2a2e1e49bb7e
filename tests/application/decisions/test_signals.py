"""Signals report the outcome of records, with a real embedded LMS."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.core.cache import cache

from usher.application import signals
from usher.application.accounts.services import deactivate
from usher.application.enrollments.services import change_mode, enroll, unenroll
from usher.application.runs.services import ensure_run
from usher.engine.services import reconcile

DEMO = "course-v1:edX+DemoX+Demo_Course"


@pytest.fixture
def received_signals() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The signals that Usher has sent: (name, arguments) of each."""
    received: list[tuple[str, dict[str, Any]]] = []
    names = ("account_ready", "enrollment_settled", "refused", "learner_deactivated")
    for name in names:

        def listen(_name: str = name, **arguments: Any) -> None:
            received.append((_name, arguments))

        getattr(signals, name).connect(listen, weak=False, dispatch_uid=f"test {name}")
    yield received
    for name in names:
        getattr(signals, name).disconnect(dispatch_uid=f"test {name}")


def test_account_and_enrollment_send_one_signal_each_when_settled(
    system: Any, received_signals: Any
) -> None:
    user, run = system.learner(), ensure_run(DEMO)
    row = enroll(user, run, reconcile_now=True)
    (first_name, about_account), (second_name, about_enrollment) = received_signals
    assert (first_name, second_name) == ("account_ready", "enrollment_settled")
    assert about_account["user"] == user
    assert about_account["account"].is_ready
    assert about_enrollment["enrollment"] == row
    assert about_enrollment["run"] == run
    assert about_enrollment["changed"] is True
    enroll(user, run, reconcile_now=True)
    assert len(received_signals) == 2


def test_the_guide_s_receiver_welcomes_a_learner_once_for_each_enrollment(
    system_with_each_api: Any,
) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "integrate.md").read_text()
    (code,) = re.findall(r"```python\n([^`]*def welcome[^`]*)```", guide)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    try:
        user, run = system_with_each_api.learner(), ensure_run(DEMO)
        enroll(user, run, reconcile_now=True)
        change_mode(user, run, "verified", reconcile_now=True)
        # The enrollment was settled twice, because its mode changed.
        assert [message.to for message in mail.outbox] == [[user.email]]
        unenroll(user, run, reconcile_now=True)
        assert len(mail.outbox) == 1
        # After the end of the first enrollment, this is another one.
        enroll(user, run, reconcile_now=True)
        assert len(mail.outbox) == 2
    finally:
        signals.enrollment_settled.disconnect(namespace["welcome"])
        signals.refused.disconnect(namespace["refund"])


def test_the_signal_about_a_refusal_has_its_reason(
    system: Any, received_signals: Any, settings: Any
) -> None:
    settings.USHER_DIGEST_MINUTES = 0
    settings.MANAGERS = [("Staff", "staff@example.org")]
    cache.delete("usher-refusals-mailed")  # the time of the last mail, which delays the next one
    user = system.learner()
    row = enroll(user, ensure_run("course-v1:edX+Nowhere+1"), reconcile_now=True)
    arguments = dict(received_signals)["refused"]
    assert (arguments["kind"], arguments["user"], arguments["row"]) == ("enrollment", user, row)
    assert (arguments["code"], arguments["message"]) == (row.error_code, row.error_message)
    assert "Nowhere" in mail.outbox[-1].body
    cache.delete("usher-refusals-mailed")


def test_a_deactivation_sends_a_signal(system: Any, received_signals: Any) -> None:
    user, run = system.learner(), ensure_run(DEMO)
    enroll(user, run, reconcile_now=True)
    received_signals.clear()
    # The public API can't deactivate an account, so the LMS's staff does it.
    system.lms.shell(
        "from django.contrib.auth.models import User; "
        f"User.objects.filter(username={user.lms_account.username!r}).update(is_active=False)"
    )
    deactivate(user)
    reconcile(["account"], user=user)
    arguments = dict(received_signals)["learner_deactivated"]
    # wanted: the application itself deactivated the learner.
    assert (arguments["user"], arguments["wanted"]) == (user, True)


def test_an_enrollment_is_settled_though_a_receiver_fails(system: Any) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("a receiver's own mistake")

    signals.enrollment_settled.connect(fail, weak=False, dispatch_uid="test failing")
    try:
        assert enroll(system.learner(), ensure_run(DEMO), reconcile_now=True).is_settled
    finally:
        signals.enrollment_settled.disconnect(dispatch_uid="test failing")


@pytest.mark.parametrize("signal", ["account_ready", "enrollment_settled"])
def test_a_receiver_may_delete_the_learner(system: Any, signal: str) -> None:
    def delete(user: Any, **_arguments: Any) -> None:
        user.delete()

    getattr(signals, signal).connect(delete, dispatch_uid="delete")
    try:
        row = enroll(system.learner(), ensure_run(DEMO), reconcile_now=True)
    finally:
        getattr(signals, signal).disconnect(dispatch_uid="delete")
    assert not row.is_settled
    assert not type(row).objects.filter(pk=row.pk).exists()


def test_a_receiver_may_delete_a_learner_who_has_another_refused_record(system: Any) -> None:
    user, deleted_ids = system.learner(), []
    runs = [ensure_run(f"course-v1:edX+Nowhere+{number}") for number in (1, 2)]

    def delete(user: Any, **_arguments: Any) -> None:
        deleted_ids.append(user.pk)
        user.delete()

    for run in runs:
        enroll(user, run)
    signals.refused.connect(delete, dispatch_uid="delete")
    try:
        reconcile(user=user)
    finally:
        signals.refused.disconnect(dispatch_uid="delete")
    assert deleted_ids
    assert not type(user).objects.filter(pk=user.pk).exists()
