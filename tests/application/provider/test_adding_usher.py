"""Usher is added to a plain Django project as the guide describes. The project runs in another
process."""

import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = """
from usher.application import defaults

SECRET_KEY = "only-for-this-test"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "shop_urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite3"}}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    *defaults.INSTALLED_APPS,
]
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
PASSWORD_HASHERS = defaults.password_hashers()
OAUTH2_PROVIDER = defaults.oauth2_provider()
REST_FRAMEWORK = defaults.rest_framework()
SITE_BASE_URL = "http://shop.example"
"""
URLS = """
from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("", include("usher.application.urls")), path("admin/", admin.site.urls)]
"""
#: Signs a learner in as the LMS would, and prints what the test checks.
SIGN_IN_SCRIPT = """
from django.contrib.auth import get_user_model
from django.test import Client
from usher.application.provider.clients import ensure_client

learner = get_user_model().objects.create_user("ada", "ada@learners.example", "x")
record, secret, _ = ensure_client("edx-oauth-app", ["http://lms/back/"])
browser = Client()
browser.force_login(learner)
query = {"client_id": record.client_id, "response_type": "code", "redirect_uri": "http://lms/back/"}
redirect = browser.get("/oauth2/authorize/", query)
code = redirect.url.split("code=")[1].split("&")[0]
tokens = Client().post("/oauth2/token/", {
    "grant_type": "authorization_code", "code": code, "redirect_uri": "http://lms/back/",
    "client_id": record.client_id, "client_secret": secret,
}).json()
me = Client().get("/api/users/me", headers={"Authorization": "Bearer " + tokens["access_token"]})
print("ME", me.json()["username"], me.json()["email"])
print("LANDING", Client().get("/login/_private/complete").status_code)
print("LOGOUT", browser.get("/logout/?no_redirect=1").status_code)
import sys
print("ALLAUTH", "allauth" in sys.modules)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The folder of a project with the settings of the guide."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop_settings.py").write_text(SETTINGS)
    (folder / "shop_urls.py").write_text(URLS)
    return folder


def manage(
    project: Path, *arguments: str, settings: str = "shop_settings", stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs a management command in the project, without this process's environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "django", *arguments, "--settings", settings],
        cwd=project,
        env={"PYTHONPATH": str(project), "PATH": "/usr/bin:/bin"},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_project_with_the_guide_s_settings_serves_the_oauth2_provider(project):
    migrated = manage(project, "migrate", "--verbosity", "0")
    assert migrated.returncode == 0, migrated.stderr
    assert "usher.W001" in migrated.stderr, "every command names the missing settings"
    shell = manage(project, "shell", "--verbosity", "0", stdin=SIGN_IN_SCRIPT)
    assert shell.returncode == 0, shell.stderr
    lines = shell.stdout.splitlines()
    assert "ME ada ada@learners.example" in lines, shell.stdout + shell.stderr
    assert "LANDING 200" in lines
    assert "LOGOUT 200" in lines
    assert "ALLAUTH False" in lines


def test_check_names_a_missing_hasher_together_with_a_malformed_address(project):
    (project / "lacking.py").write_text(
        "from shop_settings import *\ndel PASSWORD_HASHERS\nOPENEDX_API_BASE_URL = 'lms'\n"
    )
    answer = manage(project, "check", settings="lacking")
    assert answer.returncode != 0
    assert "usher.E002" in answer.stderr
    assert "OPENEDX_API_BASE_URL" in answer.stderr


def test_check_names_oauth2_provider_if_installed_apps_lacks_it(project):
    (project / "without_provider.py").write_text(
        "from shop_settings import *\nINSTALLED_APPS.remove('oauth2_provider')\n"
    )
    answer = manage(project, "check", settings="without_provider")
    last_line = answer.stderr.strip().splitlines()[-1]
    assert "INSTALLED_APPS lacks oauth2_provider. Call defaults.apply(globals())" in last_line
    assert "`from usher.application import defaults`" in last_line
