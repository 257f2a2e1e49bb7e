"""The staff page with doctor's findings, and a fact of doctor's: a broker without Celery."""

import sys
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.test import Client

from usher.application.health import facts, staff
from usher.contract.application_report import NO_CELERY

pytestmark = pytest.mark.django_db


def test_a_finding_begins_with_the_problem_and_not_with_the_check_s_title(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finding = {
        "id": "OPS-6",
        "mark": "!",
        "title": "No record is refused",
        "headline": "the LMS refuses 2 enrollments",
        "status": "warning",
        "seen": "the LMS refuses 2 enrollments",
        "cause": "the run is full",
    }
    passed = finding | {
        "id": "NET-1",
        "title": "Both names resolve",
        "headline": "Both names resolve",
        "seen": "lms.example resolves",
    }

    def examine(run_checks: Any) -> dict[str, Any]:
        return {"healthy": True, "counts": {}, "checks": [finding, passed], "next": "n"}

    monkeypatch.setattr(staff, "examine", examine)
    cache.clear()
    browser = Client()
    browser.force_login(get_user_model().objects.create_superuser("root", "root@example.org", "x"))
    page = browser.get("/staff/health/").content.decode()
    cache.clear()
    assert "<td>the LMS refuses 2 enrollments</td>" in page
    assert "<b>Check:</b> No record is refused" in page
    assert "<td>No record is refused</td>" not in page
    assert "<td>Both names resolve</td>" in page
    assert "lms.example resolves" in page


def test_a_broker_without_celery_is_reported(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is made as in a project in which Celery is not installed."""
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr("usher.application.health.setup.find_spec", lambda name: None)
    # None: importing the module fails.
    monkeypatch.setitem(sys.modules, "kombu", None)
    report = facts.report()
    assert report["engine"]["broker_error"] == NO_CELERY
    assert "celery" not in report
