"""``defaults.apply``: what a project has set stays, the environment fills in the rest."""

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from usher.application import defaults
from usher.contract.environment import ALL_KEYS


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ALL_KEYS, "SITE_BASE_URL", "CELERY_BROKER_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


def applied(tmp_path: Path, env: str = "", **own: Any) -> dict[str, Any]:
    (tmp_path / ".env").write_text(env)
    settings = {"BASE_DIR": tmp_path, **own}
    defaults.apply(settings)
    return settings


def test_every_name_that_connect_writes_is_read_from_the_file(tmp_path: Path) -> None:
    env = "".join(f"{name}=value-of-{name}\n" for name in ALL_KEYS)
    found = applied(tmp_path, env)
    assert {name: found[name] for name in ALL_KEYS} == {n: f"value-of-{n}" for n in ALL_KEYS}


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENEDX_API_CLIENT_ID", "")
    monkeypatch.setenv("SITE_BASE_URL", "https://one.example")
    found = applied(tmp_path, "OPENEDX_API_CLIENT_ID=old\nSITE_BASE_URL=https://other.example\n")
    assert "OPENEDX_API_CLIENT_ID" not in found
    assert found["SITE_BASE_URL"] == "https://one.example"
    assert found["OAUTH2_PROVIDER"]["OIDC_ISS_ENDPOINT"] == "https://one.example/oauth2"


def test_what_the_project_set_stays(tmp_path: Path) -> None:
    own: dict[str, Any] = {
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
    found = applied(tmp_path, "OPENEDX_API_BASE_URL=https://other.example\n", **own)
    assert found["OPENEDX_API_BASE_URL"] == "https://mine.example"
    assert found["INSTALLED_APPS"].count("rest_framework") == 1
    assert found["INSTALLED_APPS"][0] == "shop"
    assert found["PASSWORD_HASHERS"][0] == own["PASSWORD_HASHERS"][0]
    assert found["PASSWORD_HASHERS"][-1] == defaults.KEYED_HASHER
    assert found["OAUTH2_PROVIDER"]["ACCESS_TOKEN_EXPIRE_SECONDS"] == 60
    assert found["OAUTH2_PROVIDER"]["OIDC_ENABLED"] is True
    assert found["REST_FRAMEWORK"]["PAGE_SIZE"] == 7
    assert "DEFAULT_PERMISSION_CLASSES" not in found["REST_FRAMEWORK"]
    assert {"mine", "usher: sweep"} <= set(found["CELERY_BEAT_SCHEDULE"])
    options = found["DATABASES"]["default"]["OPTIONS"]
    assert (options["timeout"], options["transaction_mode"]) == (5, "IMMEDIATE")


@pytest.mark.parametrize(
    ("lms", "schemes"),
    [("https://lms.example", ["https"]), ("http://lms.example", ["http", "https"])],
)
def test_https_is_demanded_only_where_the_lms_has_it(
    tmp_path: Path, lms: str, schemes: list[str]
) -> None:
    env = f"SITE_BASE_URL=https://shop.example\nOPENEDX_API_BASE_URL={lms}\n"
    provider = applied(tmp_path, env)["OAUTH2_PROVIDER"]
    assert provider["ALLOWED_REDIRECT_URI_SCHEMES"] == schemes


def test_a_key_may_stand_on_one_line(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("OIDC_RSA_PRIVATE_KEY", "BEGIN\\nEND")
    assert applied(tmp_path)["OAUTH2_PROVIDER"]["OIDC_RSA_PRIVATE_KEY"] == "BEGIN\nEND"


def test_types_are_checked_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        applied(tmp_path, "USHER_CONCURRENCY=many\nUSHER_LEASE_SECONDS=soon\n")
    assert "USHER_CONCURRENCY is 'many': write a whole number" in str(refused.value)
    assert "USHER_LEASE_SECONDS" in str(refused.value)
