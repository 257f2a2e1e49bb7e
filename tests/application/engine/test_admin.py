"""The admin shows every record with its state, and repairs it."""

import pytest
from django.contrib.admin import site
from django.contrib.auth import get_user_model
from django.urls import reverse
from django.utils import timezone

from usher.application import models
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.services import enroll
from usher.application.runs.services import ensure_run

SHOWN = [m for m in site._registry if m._meta.app_label == "usher"]
DEMO = "course-v1:edX+DemoX+Demo_Course"


@pytest.fixture
def staff(client, transactional_db):
    boss = get_user_model().objects.create_superuser("boss", "boss@example.org", "x")
    client.force_login(boss)
    return client


def act(staff, model, action, *rows):
    url = reverse(f"admin:usher_{model._meta.model_name}_changelist")
    chosen = {"action": action, "_selected_action": [row.pk for row in rows]}
    return staff.post(url, chosen, follow=True).content.decode()


@pytest.mark.parametrize("model", SHOWN, ids=lambda m: m._meta.model_name)
def test_lists_and_pages_open(staff, model):
    from tests.application.conftest import make_learner

    user, run = make_learner(), ensure_run(DEMO)
    ensure_account(user)
    enroll(user, run)
    models.Grade.objects.create(user=user, run=run)
    models.Certificate.objects.create(user=user, run=run)
    models.LmsProfile.objects.create(user=user)
    models.Retirement.objects.create(username="gone")
    name = model._meta.model_name
    answer = staff.get(reverse(f"admin:usher_{name}_changelist"), {"q": "x"})
    assert answer.status_code == 200
    row = model.objects.first()
    assert staff.get(reverse(f"admin:usher_{name}_change", args=[row.pk])).status_code == 200
    for state in ("right", "waiting", "parked"):
        assert staff.get(
            reverse(f"admin:usher_{name}_changelist"), {"state": state}
        ).status_code in (
            200,
            302,
        )


def test_retry_and_repair(joined, staff):
    user = joined.learner()
    account = ensure_account(user)
    models.LmsAccount.objects.update(parked_at=timezone.now(), next_attempt_at=None)
    assert "1 are due now" in act(staff, models.LmsAccount, "retry", account)
    account.refresh_from_db()
    assert account.parked_at is None
    assert "1 changed" in act(staff, models.LmsAccount, "repair", account)
    account.refresh_from_db()
    assert account.is_ready


def test_a_username_can_not_be_changed(staff):
    from tests.application.conftest import make_learner

    account = ensure_account(make_learner())
    url = reverse("admin:usher_lmsaccount_change", args=[account.pk])
    staff.post(url, {"username": "another", "is_active": ""})
    name = account.username
    account.refresh_from_db()
    assert account.username == name
    assert account.is_active is False
    assert account.generation == 2


def test_a_name_once_given_can_not_be_taken_away(staff):
    from tests.application.conftest import make_learner

    ensure_account(make_learner())
    row = models.UsernameReservation.objects.first()
    url = reverse("admin:usher_usernamereservation_delete", args=[row.pk])
    assert staff.post(url, {"post": "yes"}).status_code == 403
