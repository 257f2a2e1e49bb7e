"""``manage.py check`` names each missing setting, with its fix."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application

from usher.application import checks, defaults
from usher.application.adapter import DefaultAdapter
from usher.application.checks import deploy, settings, urls, work
from usher.application.installed import require_installed

SETTINGS_OF_CONNECTED_PROJECT = {
    "OPENEDX_API_CLIENT_ID": "id",
    "OPENEDX_API_CLIENT_SECRET": "secret",
    "OPENEDX_SERVICE_WORKER_USERNAME": "worker",
    "OPENEDX_SERVICE_WORKER_API_TOKEN": "token",
    "SITE_BASE_URL": "http://shop.example",
    "ALLOWED_HOSTS": ["shop.example"],
}


def messages_by_id(part: Any) -> dict[str, str]:
    """Message and hint of each finding. part: a module of ``usher.application.checks``."""
    return {str(message.id): f"{message.msg} {message.hint}" for message in part.messages()}


@pytest.fixture
def project(settings: Any) -> Any:
    """The settings of a project that is connected to an LMS."""
    for name, value in SETTINGS_OF_CONNECTED_PROJECT.items():
        setattr(settings, name, value)
    return settings


def test_a_connected_project_has_no_errors(project: Any) -> None:
    assert checks  # importing the package registers the checks
    errors = [message for message in run_checks() if str(message.id).startswith("usher.E")]
    assert errors == []


@pytest.mark.parametrize(
    ("name", "value", "id_", "words"),
    [
        ("SITE_BASE_URL", "", "usher.E006", "site_base_url="),
        ("ALLOWED_HOSTS", ["other.example"], "usher.E007", "Add 'shop.example'"),
        ("USHER_ADAPTER", "no.such.Thing", "usher.E011", "DefaultAdapter"),
        ("PASSWORD_HASHERS", ["a"], "usher.E002", "defaults.apply"),
        (
            "USHER_ENCRYPTION_KEYS",
            "short",
            "usher.E001",
            "A key in USHER_ENCRYPTION_KEYS is",
        ),
    ],
)
def test_a_missing_or_unusable_setting_is_named_with_its_fix(
    project: Any, name: str, value: Any, id_: str, words: str
) -> None:
    setattr(project, name, value)
    assert words in messages_by_id(settings)[id_]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("USHER_ADOPT_ENROLLMENTS", "no", "write True or False"),
        ("USHER_CONCURRENCY", "many", "write a whole number, 1 or more"),
        ("USHER_LEASE_SECONDS", 0, "write a number above 0"),
        ("USHER_ENROLLMENT_WINNER", "both", "write application or lms"),
        ("REDIS_URL", "localhost:6379", "write an address such as redis://localhost:6379/0"),
        ("REDIS_URL", "http://localhost", "write an address such as redis://localhost:6379/0"),
        ("REDIS_URL", "redis://", "write an address such as redis://localhost:6379/0"),
        (
            "REDIS_URL",
            "redis://localhost:port",
            "write an address such as redis://localhost:6379/0",
        ),
    ],
)
def test_a_malformed_value_in_the_settings_is_named(
    project: Any, name: str, value: Any, words: str
) -> None:
    setattr(project, name, value)
    assert f"{name} is {value!r}: {words}" in messages_by_id(settings)["usher.E001"]


@pytest.mark.parametrize(
    "url",
    ["", "redis://localhost", "rediss://:secret@redis.example:6380/1", "unix:///run/redis.sock"],
)
def test_valid_addresses_of_redis_are_accepted(project: Any, url: str) -> None:
    project.REDIS_URL = url
    assert "usher.E001" not in messages_by_id(settings)


def test_the_message_about_a_malformed_address_does_not_show_its_password(project: Any) -> None:
    project.REDIS_URL = "http://:secret@redis.example"
    assert "REDIS_URL is not usable" in messages_by_id(settings)["usher.E001"]
    assert "secret" not in messages_by_id(settings)["usher.E001"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OIDC_ENABLED", "no", "Write True or False."),
        ("ROTATE_REFRESH_TOKEN", 1, "Write True or False."),
        ("ACCESS_TOKEN_EXPIRE_SECONDS", "3600", "Write a whole number."),
        ("REFRESH_TOKEN_EXPIRE_SECONDS", True, "Write a whole number."),
        ("ALLOWED_REDIRECT_URI_SCHEMES", "https", "Write a list."),
        ("SCOPES", ["user:read", "openid"], "Write a dictionary."),
    ],
)
def test_an_option_of_oauth2_provider_with_a_wrong_type_is_named(
    project: Any, name: str, value: Any, words: str
) -> None:
    project.OAUTH2_PROVIDER = {**project.OAUTH2_PROVIDER, name: value}
    message = messages_by_id(settings)["usher.E018"]
    assert f"OAUTH2_PROVIDER['{name}'] is {value!r}. {words}" in message


@pytest.mark.parametrize("broker", ["localhost:6379", "http://localhost"])
def test_a_broker_without_a_known_scheme_is_named(project: Any, broker: str) -> None:
    project.CELERY_BROKER_URL = broker
    assert "redis://localhost:6379/0" in messages_by_id(work)["usher.E020"]


@pytest.mark.parametrize("name", ["LOGIN_REDIRECT_URL", "USHER_SIGNED_OUT_URL"])
def test_a_page_that_does_not_resolve_is_named(project: Any, name: str) -> None:
    setattr(project, name, "no-such-view")
    assert f"{name} is 'no-such-view'" in messages_by_id(urls)["usher.E019"]


def test_a_missing_redis_client_is_named(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    project.REDIS_URL = "redis://localhost"
    monkeypatch.setattr(work, "find_spec", lambda name: None)
    assert "openedx-usher[redis]" in messages_by_id(work)["usher.E021"]


def test_encryption_keys_are_optional(project: Any) -> None:
    project.USHER_ENCRYPTION_KEYS = ""
    assert "usher.E001" not in messages_by_id(settings)


def test_a_user_model_without_its_email_field_is_named_unless_the_adapter_has_addresses(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "usher.E017" not in messages_by_id(settings)
    monkeypatch.setattr(get_user_model(), "EMAIL_FIELD", "email_address")
    assert "has no field 'email_address'" in messages_by_id(settings)["usher.E017"]
    project.USHER_ADAPTER = "tests.application.provider.test_checks.OwnAddresses"
    assert "usher.E017" not in messages_by_id(settings)


class OwnAddresses(DefaultAdapter):
    def email(self, user: Any) -> str:
        return "ada@example.org"


def test_a_misspelt_name_of_a_setting_is_named_with_the_correct_name(
    project: Any, tmp_path: Path
) -> None:
    assert "usher.W011" not in messages_by_id(settings)
    project.USHER_ADAPTR = "shop.openedx.Adapter"
    assert "Did you mean USHER_ADAPTER?" in messages_by_id(settings)["usher.W011"]
    del project.USHER_ADAPTR
    project.USHER_ENV_FILE = str(tmp_path / ".env")
    (tmp_path / ".env").write_text("OPENEDX_API_BASEURL=http://lms.example\n")
    assert "Did you mean OPENEDX_API_BASE_URL?" in messages_by_id(settings)["usher.W011"]


def test_an_lms_without_https_is_named_if_the_provider_requires_https(project: Any) -> None:
    project.OPENEDX_API_BASE_URL = "http://lms.example"
    project.OAUTH2_PROVIDER = project.OAUTH2_PROVIDER | {"ALLOWED_REDIRECT_URI_SCHEMES": ["https"]}
    assert "every sign-in would end in 400" in messages_by_id(settings)["usher.E008"]
    project.OPENEDX_API_BASE_URL = "https://lms.example"
    assert "usher.E008" not in messages_by_id(settings)


def test_a_session_cookie_with_the_lms_s_host_and_name_is_named(project: Any) -> None:
    project.OPENEDX_API_BASE_URL = "http://shop.example:8000"
    project.SESSION_COOKIE_NAME = "sessionid"
    assert "SESSION_COOKIE_NAME" in messages_by_id(settings)["usher.W003"]


def test_missing_paths_in_the_urlconf_are_named(project: Any) -> None:
    project.ROOT_URLCONF = "django.contrib.auth.urls"
    project.LOGIN_URL = "/nowhere/"
    by_id = messages_by_id(urls)
    assert "/oauth2/authorize/" in by_id["usher.E012"]
    assert "`from django.urls import include, path`" in by_id["usher.E012"]
    assert "usher.W004" in by_id


def test_sqlite_without_usher_s_options_is_named(project: Any) -> None:
    default_database = {"ENGINE": "django.db.backends.sqlite3", "NAME": "x", "OPTIONS": {}}
    project.DATABASES = {"default": default_database}
    assert "sqlite_options" in messages_by_id(work)["usher.W006"]


def test_a_value_in_typographic_quotes_in_the_env_file_is_named(
    project: Any, tmp_path: Path
) -> None:
    project.USHER_ENV_FILE = str(tmp_path / ".env")
    # Line 3 has another fault: it lacks "=".
    (tmp_path / ".env").write_text("A=1\nUSHER_X=“y”\nOPENEDX_IP\n")
    (problem,) = (
        message
        for message in settings.messages()
        if message.id == "usher.W010" and "line 2" in message.msg
    )
    assert "USHER_X is in typographic quotes" in problem.msg
    (tmp_path / ".env").write_text("A='1'\n")
    assert "usher.W010" not in messages_by_id(settings)


def test_the_error_for_a_missing_app_names_it_and_advises_to_call_defaults_apply(
    project: Any,
) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"lacks no\.such\.app.*defaults\.apply"):
        require_installed("no.such.app", reason="The URLconf includes usher.application.urls")


def test_a_digest_without_managers_is_named_for_production(project: Any) -> None:
    project.USHER_DIGEST_MINUTES, project.MANAGERS = 60, []
    assert "MANAGERS" in messages_by_id(deploy)["usher.W028"]
    project.MANAGERS = [("Staff", "staff@shop.example")]
    assert "usher.W028" not in messages_by_id(deploy)


def test_the_lms_s_address_is_not_checked_before_an_lms_is_connected(project: Any) -> None:
    project.OPENEDX_API_CLIENT_ID = project.OPENEDX_API_CLIENT_SECRET = ""
    project.SITE_BASE_URL = "https://shop.example"
    assert "usher.W024" not in messages_by_id(deploy)


def test_a_missing_setting_is_named_in_only_one_message(project: Any) -> None:
    project.OPENEDX_API_CLIENT_ID = ""
    messages = run_checks(include_deployment_checks=True)
    ids = [message.id for message in messages if "OPENEDX_API_CLIENT_ID" in message.msg]
    assert ids == ["usher.W001"]


def test_the_hint_leaves_out_an_env_file_of_usher_dev_that_cannot_be_read(
    project: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another user may run ``usher dev``, in a folder that only that user can read."""
    monkeypatch.chdir(tmp_path)
    project.OPENEDX_API_CLIENT_ID = ""
    folder = tmp_path / ".usher" / "dev"
    folder.mkdir(parents=True)
    (folder / "env").touch()
    assert ". .usher/dev/env" in messages_by_id(settings)["usher.W001"]

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    # As for another user: the file can't be read, and looking for it in the folder fails.
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(Path, "is_file", refuse)
    message = settings._connect_hint()
    assert message.startswith("Run `usher dev` or `usher connect`")


def test_a_project_without_an_lms_has_only_one_warning_in_development(project: Any) -> None:
    project.OAUTH2_PROVIDER = {**project.OAUTH2_PROVIDER, "OIDC_RSA_PRIVATE_KEY": ""}
    project.OPENEDX_API_CLIENT_ID = project.SITE_BASE_URL = ""
    ids = {message.id for message in run_checks() if str(message.id).startswith("usher")}
    assert ids == {"usher.W001"}
    deployment_ids = {message.id for message in run_checks(include_deployment_checks=True)}
    assert {"usher.W001", "usher.W002", "usher.W007"} <= deployment_ids


def test_messages_fit_a_terminal_and_commands_can_be_copied(project: Any) -> None:
    project.USHER_ENCRYPTION_KEYS = project.SITE_BASE_URL = ""
    project.OAUTH2_PROVIDER = {**project.OAUTH2_PROVIDER, "OIDC_RSA_PRIVATE_KEY": ""}
    messages = [
        message
        for message in run_checks(include_deployment_checks=True)
        if str(message.id).startswith("usher")
    ]
    assert len(messages) > 5, "the settings cause several messages"
    lines = [line for message in messages for line in str(message).expandtabs().splitlines()]
    assert [line for line in lines if len(line) > 80] == []
    text_by_id = {str(message.id): str(message) for message in messages}
    command = "\n      $ echo USHER_ENCRYPTION_KEYS=$(openssl rand -base64 32 | tr +/ -_) >> .env"
    assert command in text_by_id["usher.W020"]
    assert '\n  $ printf "OIDC_RSA_PRIVATE_KEY=' in text_by_id["usher.W002"]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_command_in_the_hint_writes_a_signing_key_to_the_env_file(
    project: Any, tmp_path: Path, monkeypatch: Any, shell: str
) -> None:
    project.OAUTH2_PROVIDER = {**project.OAUTH2_PROVIDER, "OIDC_RSA_PRIVATE_KEY": ""}
    hint = messages_by_id(settings)["usher.W002"]
    command = hint[hint.index("$ printf") + 2 :]
    subprocess.run([shell, "-c", command], cwd=tmp_path, check=True)
    (line,) = (tmp_path / ".env").read_text().splitlines()
    assert line.startswith("OIDC_RSA_PRIVATE_KEY='-----BEGIN")
    monkeypatch.delenv("OIDC_RSA_PRIVATE_KEY", raising=False)
    project_settings: dict[str, Any] = {"BASE_DIR": tmp_path}
    defaults.apply(project_settings)
    project.OAUTH2_PROVIDER = project_settings["OAUTH2_PROVIDER"]
    assert not {"usher.W002", "usher.E004"} & set(messages_by_id(settings))


def test_settings_for_production_are_named_only_by_the_deployment_checks(project: Any) -> None:
    project.USHER_ENCRYPTION_KEYS = project.USHER_WEBHOOK_SECRET = ""
    ids = {"usher.W024", "usher.W020", "usher.W021"}
    assert ids <= set(messages_by_id(deploy))
    assert ids.isdisjoint(message.id for message in run_checks())


@pytest.mark.parametrize(
    ("header", "proxy", "expected"),
    [
        ("", None, {"usher.W026"}),
        ("", ("HTTP_X_FORWARDED_PROTO", "https"), {"usher.W026"}),
        ("X-Real-IP", None, set()),
        ("X Real IP", None, {"usher.W027"}),
    ],
)
def test_a_missing_or_malformed_header_of_the_client_s_address_is_named(
    project: Any, header: str, proxy: Any, expected: set[str]
) -> None:
    project.USHER_CLIENT_ADDRESS_HEADER = header
    project.SECURE_PROXY_SSL_HEADER = proxy
    by_id = messages_by_id(deploy)
    assert {"usher.W026", "usher.W027"} & set(by_id) == expected
    if proxy and expected:
        assert "behind your proxy" in by_id["usher.W026"]


def test_a_malformed_value_is_named_with_the_place_where_it_is_set(
    project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text("USHER_CONCURRENCY=many\n")
    project.USHER_CONCURRENCY = "many"
    assert "Correct it in your settings." in messages_by_id(settings)["usher.E001"]
    project.USHER_ENV_FILE = str(file)
    assert f"Correct it in this file: {file}" in messages_by_id(settings)["usher.E001"]
    # Neither the environment nor the file has the malformed value.
    monkeypatch.setenv("USHER_CONCURRENCY", "5")
    file.write_text("USHER_CONCURRENCY=6\n")
    assert "Correct it in your settings." in messages_by_id(settings)["usher.E001"]
    monkeypatch.setenv("USHER_CONCURRENCY", "many")
    assert "the environment variable USHER_CONCURRENCY." in messages_by_id(settings)["usher.E001"]


def test_a_malformed_address_does_not_count_as_missing(project: Any) -> None:
    project.SITE_BASE_URL = "shop.example"
    assert "usher.E006" not in messages_by_id(settings)


def test_a_server_does_not_start_with_malformed_settings(project: Any) -> None:
    project.USHER_CONCURRENCY = "many"
    with pytest.raises(ImproperlyConfigured, match="USHER_CONCURRENCY is 'many'"):
        get_wsgi_application()


def test_a_redirect_address_without_a_view_is_named_for_production(project: Any) -> None:
    project.LOGIN_REDIRECT_URL = "/nowhere/?tab=1"
    project.USHER_SIGNED_OUT_URL = "https://www.example.org/bye"
    (message,) = urls.deploy_messages()
    assert message.id == "usher.W030"
    assert message.msg.startswith("LOGIN_REDIRECT_URL is '/nowhere/?tab=1', where no view answers")
