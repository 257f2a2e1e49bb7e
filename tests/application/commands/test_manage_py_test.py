"""``manage.py test`` in a project whose settings may name the real LMS."""

import sys

import pytest
from django.core.checks import Error

from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import ensure_account
from usher.application.checks.settings import messages
from usher.application.lms_client import client
from usher.engine.services import reconcile
from usher.testing.refusal import LmsTrafficRefused


def test_manage_py_test_sends_requests_only_if_the_project_allows_lms_traffic(
    system, monkeypatch, settings
):
    account = ensure_account(system.learner())
    # Usher recognises pytest by this module, which is absent with ``manage.py test``.
    monkeypatch.delitem(sys.modules, "pytest")
    with pytest.raises(LmsTrafficRefused, match="USHER_LMS_TRAFFIC_IN_TESTS"):
        client().confirm_lms()
    reconcile(["account"])
    account.refresh_from_db()
    assert "it was not sent" in account.error_message
    assert system.account(account.username) is None
    settings.USHER_LMS_TRAFFIC_IN_TESTS = True
    LmsAccount.objects.all().make_due()
    reconcile(["account"])
    assert system.account(account.username)


def test_the_checks_accept_the_hosts_of_a_project_in_development(system, settings):
    """In development, DEBUG makes Django allow localhost without ALLOWED_HOSTS. The test runner
    turns DEBUG off."""
    settings.SITE_BASE_URL = "http://localhost:8000"
    settings.ALLOWED_HOSTS = ["testserver"]
    assert [message.msg for message in messages() if isinstance(message, Error)] == []
