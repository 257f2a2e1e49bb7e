"""``manage.py check`` names each missing setting, with its fix."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

from usher.application import checks
from usher.application.adapter import DefaultAdapter
from usher.application.checks import deploy, settings, urls, work
from usher.application.installed import require

CONNECTED = {
    "OPENEDX_API_CLIENT_ID": "id",
    "OPENEDX_API_CLIENT_SECRET": "secret",
    "OPENEDX_SERVICE_WORKER_USERNAME": "worker",
    "OPENEDX_SERVICE_WORKER_API_TOKEN": "token",
    "SITE_BASE_URL": "http://shop.example",
    "ALLOWED_HOSTS": ["shop.example"],
}


def found(part: Any) -> dict[str, str]:
    return {str(one.id): f"{one.msg} {one.hint}" for one in part.messages()}


@pytest.fixture
def project(settings: Any) -> Any:
    for name, value in CONNECTED.items():
        setattr(settings, name, value)
    return settings


def test_a_complete_project_has_no_errors(project: Any) -> None:
    assert checks
    errors = [one for one in run_checks() if str(one.id).startswith("usher.E")]
    assert errors == []


@pytest.mark.parametrize(
    ("name", "value", "id_", "words"),
    [
        ("SITE_BASE_URL", "", "usher.E006", "site_base_url="),
        ("ALLOWED_HOSTS", ["other.example"], "usher.E007", "Add 'shop.example'"),
        ("USHER_ADAPTER", "no.such.Thing", "usher.E011", "DefaultAdapter"),
        ("PASSWORD_HASHERS", ["a"], "usher.E002", "defaults.apply"),
        ("USHER_ENCRYPTION_KEYS", "short", "usher.E001", "something that is not a key"),
    ],
)
def test_missing_settings_are_named(
    project: Any, name: str, value: Any, id_: str, words: str
) -> None:
    setattr(project, name, value)
    assert words in found(settings)[id_]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("USHER_ADOPT_ENROLLMENTS", "no", "write True or False"),
        ("USHER_CONCURRENCY", "many", "write a whole number, 1 or more"),
        ("USHER_LEASE_SECONDS", 0, "write a number above 0"),
        ("USHER_ENROLLMENT_WINNER", "both", "write application or lms"),
    ],
)
def test_values_in_the_settings_themselves_are_checked(
    project: Any, name: str, value: Any, words: str
) -> None:
    setattr(project, name, value)
    assert f"{name} is {value!r}: {words}" in found(settings)["usher.E001"]


def test_encryption_keys_are_optional(project: Any) -> None:
    project.USHER_ENCRYPTION_KEYS = ""
    assert "usher.E001" not in found(settings)


def test_a_user_model_without_the_field_of_its_addresses(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "usher.E017" not in found(settings)
    monkeypatch.setattr(get_user_model(), "EMAIL_FIELD", "email_address")
    assert "has no field 'email_address'" in found(settings)["usher.E017"]
    project.USHER_ADAPTER = "tests.application.provider.test_checks.OwnAddresses"
    assert "usher.E017" not in found(settings)


class OwnAddresses(DefaultAdapter):
    def email(self, user: Any) -> str:
        return "ada@example.org"


def test_a_name_that_is_misspelt(project: Any, tmp_path: Path) -> None:
    assert "usher.W011" not in found(settings)
    project.USHER_ADAPTR = "shop.openedx.Adapter"
    assert "Did you mean USHER_ADAPTER?" in found(settings)["usher.W011"]
    del project.USHER_ADAPTR
    project.USHER_ENV_FILE = str(tmp_path / ".env")
    (tmp_path / ".env").write_text("OPENEDX_API_BASEURL=http://lms.example\n")
    assert "Did you mean OPENEDX_API_BASE_URL?" in found(settings)["usher.W011"]


def test_an_lms_without_https_and_a_provider_that_wants_https(project: Any) -> None:
    project.OPENEDX_API_BASE_URL = "http://lms.example"
    project.OAUTH2_PROVIDER = project.OAUTH2_PROVIDER | {"ALLOWED_REDIRECT_URI_SCHEMES": ["https"]}
    assert "every sign-in would end in 400" in found(settings)["usher.E008"]
    project.OPENEDX_API_BASE_URL = "https://lms.example"
    assert "usher.E008" not in found(settings)


def test_session_cookies_of_one_name_on_one_host(project: Any) -> None:
    project.OPENEDX_API_BASE_URL = "http://shop.example:8000"
    project.SESSION_COOKIE_NAME = "sessionid"
    assert "SESSION_COOKIE_NAME" in found(settings)["usher.W003"]


def test_addresses_that_are_not_included(project: Any) -> None:
    project.ROOT_URLCONF = "django.contrib.auth.urls"
    project.LOGIN_URL = "/nowhere/"
    told = found(urls)
    assert "/oauth2/authorize/" in told["usher.E012"]
    assert "usher.W004" in told


def test_sqlite_that_would_be_locked(project: Any) -> None:
    plain = {"ENGINE": "django.db.backends.sqlite3", "NAME": "x", "OPTIONS": {}}
    project.DATABASES = {"default": plain}
    assert "sqlite_options" in found(work)["usher.W006"]


def test_lines_of_the_env_file_that_nobody_reads_as_they_look(project: Any, tmp_path: Path) -> None:
    project.USHER_ENV_FILE = str(tmp_path / ".env")
    (tmp_path / ".env").write_text("A=1\nUSHER_X=“y”\nOPENEDX_IP\n")
    (told,) = (one for one in settings.messages() if one.id == "usher.W010" and "line 2" in one.msg)
    assert "USHER_X is in typographic quotes" in told.msg
    (tmp_path / ".env").write_text("A='1'\n")
    assert "usher.W010" not in found(settings)


def test_urls_without_the_settings_name_the_settings(project: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"lacks no\.such\.app.*apply"):
        require("no.such.app", by="usher.application.urls")


def test_empty_managers_are_warned_of(project: Any) -> None:
    project.USHER_DIGEST_MINUTES, project.MANAGERS = 60, []
    assert "MANAGERS" in found(deploy)["usher.W028"]
    project.MANAGERS = [("Staff", "staff@shop.example")]
    assert "usher.W028" not in found(deploy)


def test_before_there_is_an_lms_its_address_is_not_complained_of(project: Any) -> None:
    assert "usher.W025" not in found(deploy)
    project.OPENEDX_API_CLIENT_ID = project.OPENEDX_API_CLIENT_SECRET = ""
    project.SITE_BASE_URL = "https://shop.example"
    told = [one for one in deploy.messages() if one.id in ("usher.W024", "usher.W025")]
    assert [one.msg for one in told] == [
        "OPENEDX_API_CLIENT_ID, OPENEDX_API_CLIENT_SECRET not set."
    ]


def test_production_is_checked_apart(project: Any) -> None:
    project.USHER_ENCRYPTION_KEYS = project.USHER_WEBHOOK_SECRET = ""
    assert {"usher.W024", "usher.W020", "usher.W021"} <= set(found(deploy))


@pytest.mark.parametrize(
    ("header", "proxy", "expected"),
    [
        ("", None, {"usher.W026"}),
        ("", ("HTTP_X_FORWARDED_PROTO", "https"), {"usher.W026"}),
        ("X-Real-IP", None, set()),
        ("X Real IP", None, {"usher.W027"}),
    ],
)
def test_visitors_behind_a_proxy_must_not_share_one_limit(
    project: Any, header: str, proxy: Any, expected: set[str]
) -> None:
    project.USHER_CLIENT_ADDRESS_HEADER = header
    project.SECURE_PROXY_SSL_HEADER = proxy
    told = found(deploy)
    assert {"usher.W026", "usher.W027"} & set(told) == expected
    if proxy and expected:
        assert "behind your proxy" in told["usher.W026"]
