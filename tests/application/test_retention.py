"""Old rows of logs are deleted, whichever process runs the deletion."""

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.application.conftest import make_learner
from usher.application import retention, tasks
from usher.application.audit.models import AuditEvent
from usher.application.audit.services import record
from usher.application.defaults import beat_schedule
from usher.application.provider.models import SeenSignOut, SignedInSession
from usher.application.webhooks.models import ReceivedEvent
from usher.console.models import Attempt
from usher.engine import services

pytestmark = pytest.mark.django_db
TABLES = (AuditEvent, ReceivedEvent, SeenSignOut, SignedInSession, Attempt)


@pytest.fixture
def rows(settings):
    """An old and a new row in each table."""
    for age in (timedelta(days=500), timedelta(0)):
        time, name = timezone.now() - age, f"days-{age.days}"
        event = record("something", subject=name)
        AuditEvent.objects.filter(pk=event.pk).update(at=time)
        ReceivedEvent.objects.create(event_id=name, received_at=time)
        SeenSignOut.objects.create(event_id=name, received_at=time)
        SignedInSession.objects.create(user=make_learner(), session_key=name, started_at=time)
        Attempt.objects.create(kind="account", row_id=1, at=time)


def count_rows():
    return [model.objects.count() for model in TABLES]


def test_forget_old_deletes_old_rows_and_keeps_new_rows(rows):
    assert retention.forget_old() == {
        "audit": 1,
        "webhooks": 1,
        "sign_outs": 1,
        "sessions": 1,
        "console": 1,
    }
    assert count_rows() == [1, 1, 1, 1, 1]
    assert not any(retention.forget_old().values())


@pytest.mark.parametrize(
    ("days", "remaining"),
    [(0, 2), (600, 2), (499, 1)],  # the old event has 500 days; 0: for ever
)
def test_usher_audit_days_is_the_age_at_which_audit_events_are_deleted(
    rows, settings, days, remaining
):
    settings.USHER_AUDIT_DAYS = days
    retention.forget_old()
    assert AuditEvent.objects.count() == remaining


def test_more_old_rows_than_one_portion_are_all_deleted(rows, monkeypatch):
    monkeypatch.setattr(retention, "_ROWS_A_PORTION", 3)
    received_at = timezone.now() - timedelta(days=500)
    ReceivedEvent.objects.bulk_create(
        ReceivedEvent(event_id=str(number), received_at=received_at) for number in range(10)
    )
    assert retention.forget_old()["webhooks"] == 11  # ten here, and the old row of ``rows``
    assert ReceivedEvent.objects.count() == 1


def test_a_scheduled_celery_task_deletes_old_rows(rows):
    entry = beat_schedule()["usher: old rows"]
    task = getattr(tasks, entry["task"].rpartition(".")[2])
    assert task.name == entry["task"]
    task()
    assert count_rows() == [1, 1, 1, 1, 1]


def test_a_sweep_deletes_old_rows_at_most_once_an_hour(rows, monkeypatch):
    """A project without Celery has only the sweeps of ``reconcile --watch``."""
    monkeypatch.setattr("usher.application.lms.changes.pull_changes", lambda: None)
    monkeypatch.setattr(retention, "_last_removal", retention.time.monotonic())
    services.prepare_sweep()
    assert count_rows() == [2, 2, 2, 2, 2]
    monkeypatch.setattr(
        retention, "_last_removal", retention.time.monotonic() - retention.INTERVAL_SECONDS
    )
    services.prepare_sweep()
    assert count_rows() == [1, 1, 1, 1, 1]
