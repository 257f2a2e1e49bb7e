"""The script that ``usher connect`` runs inside an application built on Usher."""

import json
from importlib import resources
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from usher.application.accounts.models import LmsAccount

User = get_user_model()
pytestmark = pytest.mark.django_db


def run_action(capsys: Any, action: str) -> dict[str, Any]:
    """Runs one action of the script and returns the answer that the script prints."""
    script = resources.files("usher.connect.application.scripts").joinpath("record.py").read_text()
    params = {"action": action, "name": "edx-oauth-app", "settings": [], "client_id": ""}
    exec(script, {"PARAMS": params})
    _, _, answer = capsys.readouterr().out.rpartition("usher-answer: ")
    return dict(json.loads(answer))


def test_reserve_superuser_reserves_the_lms_username_that_it_prints(capsys: Any) -> None:
    """Learner ``ad.min`` already has the LMS username ``ad_min``, so superuser ``ad_min`` gets
    another LMS username."""
    from usher.application.accounts.services import ensure_account

    learner = ensure_account(User.objects.create_user("ad.min", "learner@example.org"))
    assert learner.username == "ad_min"
    boss = User.objects.create_superuser("ad_min", "boss@example.org", "password")

    assert run_action(capsys, "inspect")["superuser"] == ["", "boss@example.org"]
    assert not LmsAccount.objects.filter(user=boss).exists()

    name, email = run_action(capsys, "reserve_superuser")["superuser"]

    assert name == LmsAccount.objects.get(user=boss).username
    assert name != "ad_min"
    assert email == "boss@example.org"
    assert run_action(capsys, "inspect")["superuser"] == [name, email]
    assert run_action(capsys, "reserve_superuser")["superuser"] == [name, email]
