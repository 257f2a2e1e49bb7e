"""Staff get one mail about all new refusals of a period."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core import mail
from django.urls import reverse
from django.utils import timezone

from tests.application.console.conftest import DEMO
from usher.application.adapter import Refusal, adapter, digest_minutes
from usher.application.enrollments.models import Enrollment
from usher.application.runs.services import ensure_run
from usher.console.digest.services import send_if_due
from usher.console.refusals.services import ignore
from usher.engine import heartbeat
from usher.engine.models import Watermark
from usher.engine.registry import kind

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def managers(settings: Any) -> None:
    """Refusals are mailed to one manager, once an hour."""
    settings.MANAGERS = [("Staff", "staff@example.org")]
    settings.USHER_DIGEST_MINUTES = 60


def refuse(count: int, code: str) -> None:
    """Creates ``count`` enrollments of new users, all refused with ``code``."""
    for number in range(count):
        name = f"{code}-{number}"
        user = get_user_model().objects.create_user(name, f"{name}@e.org")
        Enrollment.objects.create(
            user=user,
            run=ensure_run(DEMO),
            refused_at=timezone.now(),
            due_at=None,
            error_code=code,
            error_message="No\nplace.",
        )


def move_into_the_past() -> None:
    """Makes the last mail two hours old, and all refusals three hours old."""
    Watermark.objects.filter(name="digest").update(asked_at=timezone.now() - timedelta(hours=2))
    Enrollment.objects.set_work(refused_at=timezone.now() - timedelta(hours=3))


def test_one_mail_contains_all_refusals_and_no_other_is_sent_within_the_hour() -> None:
    refuse(3, "mode-not-offered")
    refuse(1, "enrollment-closed")
    assert send_if_due()
    refuse(5, "mode-kept")
    assert not send_if_due()
    (sent,) = mail.outbox
    assert sent.subject.endswith("Open edX refused 4 records")
    assert "- Enrollments, 3: The run does not offer this mode [mode-not-offered]" in sent.body
    assert "The LMS says: No place." in sent.body
    assert "/staff/refusals/" in sent.body


def test_the_first_mail_contains_refusals_older_than_the_period(settings: Any) -> None:
    settings.USHER_DIGEST_MINUTES = 1
    refuse(2, "enrollment-closed")
    Enrollment.objects.set_work(refused_at=timezone.now() - timedelta(minutes=5))
    assert send_if_due()
    assert mail.outbox[0].subject.endswith("2 records")


def test_mails_and_pages_say_when_a_refused_enrollment_is_sent_again(staff: Any) -> None:
    refuse(1, "enrollment-closed")
    # A worker runs. Otherwise the overview's first sentence would be about the missing worker.
    # since: the seconds after which the worker's next report would be late.
    Watermark.objects.create(name=heartbeat.WORKER, since="30", asked_at=timezone.now())
    send_if_due()
    pages = [
        staff.get(reverse(f"usher_console:{name}")).content.decode()
        for name in ("overview", "refusals")
    ]
    refusal = Refusal(kind="enrollment", what="ada", code="code", message="No.", row=None)
    _, text_of_single_mail = adapter().refusal_mail([refusal])
    for text in (mail.outbox[0].body, text_of_single_mail, *pages):
        assert "enrollments also when their course run changes" in " ".join(text.split())


def test_the_next_mail_contains_only_new_refusals() -> None:
    refuse(3, "mode-not-offered")
    assert send_if_due()
    move_into_the_past()
    assert not send_if_due()
    # That check stored its time, although it sent nothing.
    Watermark.objects.filter(name="digest").update(asked_at=timezone.now() - timedelta(hours=2))
    refuse(2, "mode-kept")
    refuse(1, "enrollment-closed")
    ignore(kind("enrollment"), code="enrollment-closed", note="known", by=None)
    assert send_if_due()
    assert "refused 2 records" in mail.outbox[-1].subject
    assert len(mail.outbox) == 2


@pytest.mark.parametrize("missing_setting", ["minutes", "managers"])
def test_no_mail_is_sent_without_minutes_or_without_managers(
    settings: Any, missing_setting: str
) -> None:
    refuse(1, "mode-kept")
    if missing_setting == "minutes":
        settings.USHER_DIGEST_MINUTES = 0
    else:
        settings.MANAGERS = []
    assert not send_if_due()
    assert mail.outbox == []


def test_refusals_wait_for_the_hourly_digest_unless_debug_turns_it_off(settings: Any) -> None:
    del settings.USHER_DIGEST_MINUTES
    assert digest_minutes() == 60
    refusal = Refusal(kind="enrollment", what="ada", code="closed", message="Closed.", row=None)
    adapter().refused([refusal])
    assert mail.outbox == []
    settings.DEBUG = True
    assert digest_minutes() == 0  # each refusal is mailed at once
