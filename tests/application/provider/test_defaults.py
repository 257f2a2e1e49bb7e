"""``defaults.apply`` keeps the project's settings and adds the others from the environment."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from usher.application import defaults, dev_lms
from usher.application.defaults import environment
from usher.contract.environment import ALL_KEYS


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment has no variables that ``defaults.apply`` reads."""
    other_names = ("SITE_BASE_URL", "CELERY_BROKER_URL", "OIDC_RSA_PRIVATE_KEY")
    for name in (*ALL_KEYS, *environment.OPTIONS, *other_names):
        monkeypatch.delenv(name, raising=False)


def apply_defaults(
    tmp_path: Path, env: str = "", arguments: dict[str, Any] | None = None, **project: Any
) -> dict[str, Any]:
    """The settings after ``defaults.apply``. env: text of ``.env``. arguments: of ``apply``.
    project: settings that the project has set before the call."""
    (tmp_path / ".env").write_text(env)
    settings = {"BASE_DIR": tmp_path, **project}
    defaults.apply(settings, **(arguments or {}))
    return settings


def test_every_name_that_connect_writes_is_read_from_the_file(tmp_path: Path) -> None:
    env = "".join(f"{name}=value-of-{name}\n" for name in ALL_KEYS)
    settings_applied = apply_defaults(tmp_path, env)
    for name in ALL_KEYS:
        assert settings_applied[name] == f"value-of-{name}"


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENEDX_API_CLIENT_ID", "")  # an empty variable hides the file's line
    monkeypatch.setenv("SITE_BASE_URL", "https://one.example")
    settings_applied = apply_defaults(
        tmp_path, "OPENEDX_API_CLIENT_ID=old\nSITE_BASE_URL=https://other.example\n"
    )
    assert "OPENEDX_API_CLIENT_ID" not in settings_applied
    assert settings_applied["SITE_BASE_URL"] == "https://one.example"
    assert settings_applied["OAUTH2_PROVIDER"]["OIDC_ISS_ENDPOINT"] == "https://one.example/oauth2"


def test_apply_keeps_the_settings_of_the_project_and_adds_those_of_usher(tmp_path: Path) -> None:
    of_project: dict[str, Any] = {
        "OPENEDX_API_BASE_URL": "https://mine.example",
        "INSTALLED_APPS": ["shop", "rest_framework"],
        "PASSWORD_HASHERS": ["django.contrib.auth.hashers.ScryptPasswordHasher"],
        "OAUTH2_PROVIDER": {"ACCESS_TOKEN_EXPIRE_SECONDS": 60},
        "REST_FRAMEWORK": {"PAGE_SIZE": 7},
        "CELERY_BROKER_URL": "redis://here/0",
        "CELERY_BEAT_SCHEDULE": {"mine": {"task": "x", "schedule": 1.0}},
        "DATABASES": {
            "default": {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"timeout": 5}}
        },
    }
    settings_applied = apply_defaults(
        tmp_path, "OPENEDX_API_BASE_URL=https://other.example\n", **of_project
    )
    assert settings_applied["OPENEDX_API_BASE_URL"] == "https://mine.example"
    assert settings_applied["INSTALLED_APPS"].count("rest_framework") == 1
    assert settings_applied["INSTALLED_APPS"][0] == "shop"
    assert settings_applied["PASSWORD_HASHERS"][0] == of_project["PASSWORD_HASHERS"][0]
    assert settings_applied["PASSWORD_HASHERS"][-1] == defaults.KEYED_HASHER
    assert settings_applied["OAUTH2_PROVIDER"]["ACCESS_TOKEN_EXPIRE_SECONDS"] == 60
    assert settings_applied["OAUTH2_PROVIDER"]["OIDC_ENABLED"] is True
    assert settings_applied["REST_FRAMEWORK"]["PAGE_SIZE"] == 7
    assert "DEFAULT_PERMISSION_CLASSES" not in settings_applied["REST_FRAMEWORK"]
    assert {"mine", "usher: sweep"} <= set(settings_applied["CELERY_BEAT_SCHEDULE"])
    options = settings_applied["DATABASES"]["default"]["OPTIONS"]
    assert (options["timeout"], options["transaction_mode"]) == (5, "IMMEDIATE")


@pytest.mark.parametrize(
    ("lms", "schemes"),
    [("https://lms.example", ["https"]), ("http://lms.example", ["http", "https"])],
)
def test_redirect_uris_must_be_https_only_if_the_lms_has_https(
    tmp_path: Path, lms: str, schemes: list[str]
) -> None:
    env = f"SITE_BASE_URL=https://shop.example\nOPENEDX_API_BASE_URL={lms}\n"
    provider = apply_defaults(tmp_path, env)["OAUTH2_PROVIDER"]
    assert provider["ALLOWED_REDIRECT_URI_SCHEMES"] == schemes


def test_a_key_with_escaped_line_breaks_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("OIDC_RSA_PRIVATE_KEY", "BEGIN\\nEND")
    assert apply_defaults(tmp_path)["OAUTH2_PROVIDER"]["OIDC_RSA_PRIVATE_KEY"] == "BEGIN\nEND"


def test_malformed_names_every_value_of_a_wrong_type(tmp_path: Path) -> None:
    settings = apply_defaults(tmp_path, "USHER_CONCURRENCY=many\nUSHER_LEASE_SECONDS=soon\n")
    concurrency, lease = environment.malformed(SimpleNamespace(**settings))
    assert concurrency.startswith("USHER_CONCURRENCY is 'many': write a whole number")
    assert lease.startswith("USHER_LEASE_SECONDS is 'soon': write a number")


@pytest.mark.parametrize(
    "line",
    [
        "USHER_CONCURRENCY=0",
        "USHER_LEASE_SECONDS=-3",
        "USHER_STOP_SECONDS=nan",
        "USHER_REQUESTS_A_SECOND=inf",
        "USHER_AUDIT_DAYS=1e3",
        "USHER_ENROLLMENT_WINNER=both",
        "USHER_ACCOUNT_WINNER=LMS",
        "USHER_MISSING_SHARE=5",
        "USHER_ADOPT_ENROLLMENTS=maybe",
        "USHER_CLIENT_ADDRESS_HEADER=X Real IP",
    ],
)
def test_malformed_names_a_value_outside_the_setting_s_range(tmp_path: Path, line: str) -> None:
    [problem] = environment.malformed(SimpleNamespace(**apply_defaults(tmp_path, line + "\n")))
    assert problem.startswith(line.split("=")[0])


def test_false_and_0_in_the_project_s_settings_are_kept(tmp_path: Path) -> None:
    env = "USHER_ADOPT_ENROLLMENTS=true\nUSHER_DIGEST_MINUTES=5\nUSHER_ADAPTER=shop.Adapter\n"
    project = {"USHER_ADOPT_ENROLLMENTS": False, "USHER_DIGEST_MINUTES": 0, "USHER_ADAPTER": ""}
    settings_applied = apply_defaults(tmp_path, env, **project)
    assert settings_applied["USHER_ADOPT_ENROLLMENTS"] is False
    assert settings_applied["USHER_DIGEST_MINUTES"] == 0
    # An empty text counts as not set.
    assert settings_applied["USHER_ADAPTER"] == "shop.Adapter"


def test_apply_passes_its_options_to_the_settings_that_they_change(tmp_path: Path) -> None:
    options = {
        "issuer": "https://id.shop.example",
        "https_only": True,
        "sweep_seconds": 5.0,
        "sync_runs_seconds": 7.0,
    }
    settings_applied = apply_defaults(tmp_path, "CELERY_BROKER_URL=redis://here/0\n", options)
    provider, schedule = (
        settings_applied["OAUTH2_PROVIDER"],
        settings_applied["CELERY_BEAT_SCHEDULE"],
    )
    assert provider["ALLOWED_REDIRECT_URI_SCHEMES"] == ["https"]
    assert provider["OIDC_ISS_ENDPOINT"] == "https://id.shop.example"
    assert {5.0, 7.0} <= {entry["schedule"] for entry in schedule.values()}


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("http_only", "Did you mean https_only?"),
        ("rsa_private_key", "Write oidc_rsa_private_key"),
        ("ACCESS_TOKEN_EXPIRE_SECONDS", "write it above the call"),
        ("zzz", "It takes site_base_url, env_file,"),
    ],
)
def test_the_error_about_an_unknown_argument_names_the_correct_one(
    tmp_path: Path, name: str, advice: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"has no argument '{name}'") as refused:
        apply_defaults(tmp_path, "", {name: 1})
    assert advice in str(refused.value)


@pytest.mark.parametrize("name", ["site_base_url", "oidc_rsa_private_key", "issuer"])
def test_the_error_about_an_argument_of_a_wrong_type_names_the_argument(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"got a int as {name}: write a text"):
        apply_defaults(tmp_path, "", {name: 5})


@pytest.mark.parametrize(
    ("project_settings", "arguments", "is_silenced"),
    [
        ({}, {}, True),
        ({"SITE_BASE_URL": "https://shop.example"}, {}, True),
        ({"SITE_BASE_URL": "http://shop.example"}, {"https_only": False}, False),
        ({"OAUTH2_PROVIDER": {"ALLOWED_REDIRECT_URI_SCHEMES": ["http"]}}, {}, False),
        # Both have https, so the schemes don't include http, and there is no warning.
        (
            {"SITE_BASE_URL": "https://a.example", "OPENEDX_API_BASE_URL": "https://b.example"},
            {},
            False,
        ),
    ],
)
def test_the_warning_about_http_is_silenced_unless_the_project_chose_the_schemes(
    project_settings: Any, arguments: Any, is_silenced: bool
) -> None:
    settings: dict[str, Any] = {"SILENCED_SYSTEM_CHECKS": ["a.W001"], **project_settings}
    defaults.apply(settings, env_file=None, **arguments)
    expected = ["a.W001", *(["oauth2_provider.W008"] if is_silenced else [])]
    assert settings["SILENCED_SYSTEM_CHECKS"] == expected
    # The guide says that this warning is silenced.
    guide = (Path(__file__).parents[3] / "docs" / "integrate.md").read_text()
    assert "`oauth2_provider.W008`" in guide


def test_the_env_file_next_to_manage_py_is_read_if_the_settings_are_a_package(
    tmp_path: Path,
) -> None:
    """If ``settings.py`` becomes a package, the ``BASE_DIR`` that ``startproject`` wrote is the
    folder ``shop``, which is one below ``manage.py``."""
    (tmp_path / "shop").mkdir()
    (tmp_path / ".env").write_text("OPENEDX_API_CLIENT_ID=id\n")
    settings: dict[str, Any] = {"BASE_DIR": tmp_path / "shop"}
    defaults.apply(settings)
    assert "OPENEDX_API_CLIENT_ID" not in settings
    (tmp_path / "manage.py").touch()
    defaults.apply(settings)
    assert settings["OPENEDX_API_CLIENT_ID"] == "id"
    assert settings["USHER_ENV_FILE"] == str(tmp_path / ".env")
    (tmp_path / "shop" / ".env").write_text("OPENEDX_API_CLIENT_ID=nearer\n")
    settings = {"BASE_DIR": tmp_path / "shop"}
    defaults.apply(settings)
    assert settings["OPENEDX_API_CLIENT_ID"] == "nearer"


def test_the_folder_of_usher_dev_is_found_if_the_settings_are_a_package(
    tmp_path: Path, settings: Any
) -> None:
    settings.BASE_DIR, settings.OPENEDX_API_CLIENT_ID = tmp_path / "shop", ""
    (tmp_path / "shop").mkdir()
    (tmp_path / "manage.py").touch()
    (tmp_path / ".usher" / "dev").mkdir(parents=True)
    (tmp_path / ".usher" / "dev" / "env").touch()
    assert dev_lms.is_used()
