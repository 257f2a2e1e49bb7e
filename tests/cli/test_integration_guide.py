"""The guide for integrators works as it stands: a project made of its code blocks boots."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "integrate.md"
ADDED = """
SECRET_KEY = "for this test only"
ROOT_URLCONF = "urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
USE_TZ = True
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        (folder / name).write_text(code + (ADDED if name == "settings.py" else ""))
    return folder


def manage(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "django", *arguments],
        cwd=project,
        env={
            **{name: value for name, value in os.environ.items() if "OPENEDX" not in name},
            "DJANGO_SETTINGS_MODULE": "settings",
            "PYTHONPATH": str(project),
            **environment,
        },
        capture_output=True,
        text=True,
    )


COMPLETE = {
    "OPENEDX_API_CLIENT_ID": "id",
    "OPENEDX_API_CLIENT_SECRET": "secret",
    "OPENEDX_SERVICE_WORKER_USERNAME": "worker",
    "OPENEDX_SERVICE_WORKER_API_TOKEN": "token",
}


def test_it_migrates_and_reconciles(project: Path) -> None:
    migrated = manage(project, "migrate", "--verbosity", "0", **COMPLETE)
    assert migrated.returncode == 0, migrated.stderr
    done = manage(project, "reconcile", "--dry-run", **COMPLETE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_a_command_prints_is_json_and_nothing_else(project: Path) -> None:
    passwords = {"DJANGO_SUPERUSER_PASSWORD": "a-Word-1", "USHER_TEST_LEARNER_PASSWORD": "a-Word-2"}
    arguments = ("configure_instance", "--no-input", "--json")
    made = manage(project, *arguments, **COMPLETE, **passwords)
    assert json.loads(made.stdout)["created_users"] == ["admin", "testlearner"], made.stdout


def test_what_is_missing_is_named_all_at_once(project: Path) -> None:
    checked = manage(project, "check")
    for name in COMPLETE:
        assert name in checked.stderr


def test_what_is_malformed_is_named(project: Path) -> None:
    checked = manage(project, "check", **COMPLETE, OPENEDX_API_BASE_URL="lms.example.org")
    assert checked.returncode == 1
    assert "OPENEDX_API_BASE_URL is 'lms.example.org': write an address" in checked.stderr
    assert "Traceback" not in checked.stderr
