"""Settings of the reference application: environment, database, secrets, headers, logs, mail."""

import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import django
import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from campus import logs
from campus.databases import database
from campus.environment import CAMPUS_DIR
from campus.secret_files import random_key, read_or_create

HOME = Path("/home/campus")


def manage(*arguments, **environment):
    """Runs campus's manage.py in another process, without an ``.env`` file unless ``environment``
    names one."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=CAMPUS_DIR,
        env={"PATH": os.environ["PATH"], "CAMPUS_ENV_FILE": os.devnull} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_default_database_is_a_sqlite_file_with_write_ahead_log():
    database_settings = database("", HOME)
    assert database_settings["NAME"] == "/home/campus/campus.sqlite3"
    assert database_settings["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "WAL" in database_settings["OPTIONS"]["init_command"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://u:p%40ss@db.example:5433/campus?sslmode=require",
            ("campus", "u", "p@ss", "db.example", "5433", {"sslmode": "require"}),
        ),
        ("postgres://u@/campus?host=/run/pg", ("campus", "u", "", "/run/pg", "", {})),
        (
            "postgresql://postgres:@/postgres?host=/x&port=6",
            ("postgres", "postgres", "", "/x", "6", {}),
        ),
    ],
)
def test_a_postgresql_address_is_read_into_database_settings(url, expected):
    database_settings = database(url, HOME)
    keys = ("NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
    assert tuple(database_settings[key] for key in keys) == expected


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hunter2@db/x",
        "hunter2",
        "postgresql://u:hunter2@h:x/d",
        "postgresql://u:hunter2[x@h/d",
        "postgresql://u:hunter2\u2100x@h/d",
    ],
)
def test_the_error_about_a_malformed_database_url_does_not_show_its_password(url):
    with pytest.raises(ImproperlyConfigured) as raised:
        database(url, HOME)
    assert "DATABASE_URL" in str(raised.value)
    assert "hunter2" not in str(raised.value)


@given(st.text())
def test_any_database_url_gives_settings_or_an_error_that_names_database_url(text):
    try:
        assert "ENGINE" in database(text, HOME)
    except ImproperlyConfigured as error:
        assert "DATABASE_URL" in str(error)


def test_a_secret_is_generated_once_and_readable_only_by_its_owner(tmp_path):
    path = tmp_path / "deep" / "secret"
    first = read_or_create(path, random_key)
    assert read_or_create(path, random_key) == first
    assert len(first) >= 43, "at least 32 random bytes in base64"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path], "temporary files are left"


def test_read_or_create_returns_the_secret_that_another_process_creates_meanwhile(tmp_path):
    path = tmp_path / "secret"

    def create_while_another_process_does():
        path.write_text("the other's")
        return "mine"

    assert read_or_create(path, create_while_another_process_does) == "the other's"


def test_an_unknown_edition_is_refused_and_the_known_editions_are_named(tmp_path):
    answer = manage("check", CAMPUS_EDITION="mitx", CAMPUS_HOME=str(tmp_path))
    assert answer.returncode != 0
    assert "mitxonline, mitxpro" in answer.stderr


def test_check_fails_and_names_all_malformed_settings(tmp_path):
    file = tmp_path / ".env"
    file.write_text("OPENEDX_API_BASE_URL=lms:8000\nEDX_API_CLIENT_TIMEOUT=soon\n")
    answer = manage("check", CAMPUS_ENV_FILE=str(file), CAMPUS_HOME=str(tmp_path))
    assert answer.returncode != 0
    assert "OPENEDX_API_BASE_URL" in answer.stderr
    assert "EDX_API_CLIENT_TIMEOUT" in answer.stderr


def test_the_environment_wins_over_the_file(tmp_path):
    file = tmp_path / ".env"
    file.write_text('SITE_NAME="From the file" # a remark\n')
    script = "from django.conf import settings; print(settings.SITE_NAME)"
    print_name = ("shell", "-v", "0", "-c", script)  # with -v 1, shell would print more lines
    environment = {"CAMPUS_ENV_FILE": str(file), "CAMPUS_HOME": str(tmp_path)}
    assert manage(*print_name, **environment).stdout.strip() == "From the file"
    environment["SITE_NAME"] = "From the environment"
    assert manage(*print_name, **environment).stdout.strip() == "From the environment"


def test_the_models_and_the_migrations_agree(tmp_path):
    answer = manage("makemigrations", "--check", "--dry-run", CAMPUS_HOME=str(tmp_path))
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_deployment_checks_find_no_problem_over_https(tmp_path):
    answer = manage(
        "check",
        "--deploy",
        "--fail-level",
        "ERROR",
        CAMPUS_HOME=str(tmp_path),
        SITE_BASE_URL="https://campus.example",
        SECURE_SSL_REDIRECT="true",
    )
    assert answer.returncode == 0, answer.stderr
    # Warnings about HSTS, the cookies' Secure flags and the OAuth2 provider.
    for id_ in ("security.W004", "security.W012", "security.W016", "oauth2_provider."):
        assert id_ not in answer.stderr


@pytest.mark.django_db
def test_pages_have_strict_headers_and_load_nothing_from_other_sites(client):
    page = client.get("/")
    assert page["X-Frame-Options"] == "DENY"
    assert page["X-Content-Type-Options"] == "nosniff"
    assert page["Referrer-Policy"] == "strict-origin-when-cross-origin"
    assert "default-src 'self'" in page["Content-Security-Policy"]
    text = page.content.decode()
    assert "http://" not in text.replace("http://www.w3.org", "")  # the namespace of SVG
    assert "https://" not in text


@pytest.mark.django_db
def test_cookie_names_contain_the_edition(client, settings):
    """Browsers send cookies to all ports of a host, where the LMS and another edition may run."""
    assert settings.SESSION_COOKIE_NAME == "mitxonline_session"
    assert settings.CSRF_COOKIE_NAME == "mitxonline_csrf"


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("USHER_CONCURRENCY", "many", "write a whole number"),
        ("EMAIL_PORT", "2.5", "write a whole number"),
        ("USHER_LEASE_SECONDS", "1 minute", "write a number"),
        ("DEBUG", "maybe", "write true or false"),
    ],
)
def test_a_malformed_number_or_flag_is_refused_by_its_name(name, value, advice, tmp_path):
    answer = manage("check", CAMPUS_HOME=str(tmp_path), **{name: value})
    assert answer.returncode != 0
    assert f"ImproperlyConfigured: {name} is {value!r}: {advice}." in answer.stderr


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_no_logger_logs_below_log_level(level, tmp_path):
    script = (
        "import logging\n"
        "for name in ('', 'usher.x', 'django.request', 'django.server', 'httpx', 'oauthlib'):\n"
        "    print(name, logging.getLevelName(logging.getLogger(name).getEffectiveLevel()))\n"
    )
    environment = {"LOG_LEVEL": level.lower(), "CAMPUS_HOME": str(tmp_path)}
    lines = manage("shell", "-v", "0", "-c", script, **environment).stdout.splitlines()
    level_of_libraries = "ERROR" if level == "ERROR" else "WARNING"
    assert dict(line.split(" ") for line in lines) == {
        "": level,
        "usher.x": level,
        "django.request": level,
        "django.server": level,
        "httpx": level_of_libraries,
        "oauthlib": level_of_libraries,
    }


def test_database_queries_are_not_logged_with_their_values(tmp_path):
    script = "import logging; print(logging.getLogger('django.db.backends').isEnabledFor(10))"
    environment = {"LOG_LEVEL": "DEBUG", "CAMPUS_HOME": str(tmp_path)}
    assert manage("shell", "-v", "0", "-c", script, **environment).stdout.strip() == "False"


def test_an_unknown_log_level_is_refused_and_the_known_levels_are_named(tmp_path):
    answer = manage("check", LOG_LEVEL="loud", CAMPUS_HOME=str(tmp_path))
    assert answer.returncode != 0
    assert "LOG_LEVEL" in answer.stderr
    assert "DEBUG, INFO, WARNING, ERROR, CRITICAL" in answer.stderr


def test_a_failed_test_shows_its_log_once():
    """pytest shows it; a handler that writes to standard error would show it again."""
    assert "out" in logs.settings("INFO")["handlers"]
    django.setup()  # as each call of manage.py within a test does
    names = [handler.name for handler in logging.getLogger().handlers]
    assert "out" not in names


def test_a_log_line_is_one_line_without_secrets():
    record = logging.LogRecord("x", logging.INFO, "", 0, "first\nsecond", None, None)
    line = logs.formatter().format(record)
    assert len(line.splitlines()) == 1
    event = {"event": "token", "client_secret": "hidden", "user": "a\nb", "level": "info"}
    logged = logs.without_secrets(None, "info", event)
    assert logged == {
        "client_secret": "[redacted]",
        "user": "a\N{REPLACEMENT CHARACTER}b",
        "level": "info",
        "event": "token",
    }


def test_a_server_does_not_start_with_malformed_settings(tmp_path):
    answer = subprocess.run(
        [sys.executable, "-c", "import campus.wsgi"],
        cwd=CAMPUS_DIR,
        env={
            "PATH": os.environ["PATH"],
            "CAMPUS_ENV_FILE": os.devnull,
            "CAMPUS_HOME": str(tmp_path),
            "LOGOUT_REDIRECT_URL": "logout",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode != 0
    assert "LOGOUT_REDIRECT_URL" in answer.stderr
