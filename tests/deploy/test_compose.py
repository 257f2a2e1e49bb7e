"""The compose file for production, and the script that creates its settings."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def env_file(tmp_path):
    """The operator's settings in a separate folder, created by ``new_env.sh``."""
    for name in ("new_env.sh", ".env.example"):
        shutil.copy(ROOT / "deploy" / name, tmp_path / name)
    subprocess.run(["sh", tmp_path / "new_env.sh"], check=True, capture_output=True)
    return tmp_path / ".env"


def test_new_env_writes_a_file_for_its_owner_only_and_keeps_an_existing_file(env_file):
    permissions_of_others = env_file.stat().st_mode & 0o077
    assert permissions_of_others == 0
    settings = env_file.read_text()
    subprocess.run(["sh", env_file.parent / "new_env.sh"], check=True, capture_output=True)
    assert env_file.read_text() == settings


def test_two_installations_share_no_secret(env_file, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for name in ("new_env.sh", ".env.example"):
        shutil.copy(ROOT / "deploy" / name, other / name)
    subprocess.run(["sh", other / "new_env.sh"], check=True, capture_output=True)
    pattern = r"^(?:POSTGRES_PASSWORD|SECRET_KEY|USHER_ENCRYPTION_KEYS)=(.+)$"
    first_secrets = set(re.findall(pattern, env_file.read_text(), re.M))
    second_secrets = set(re.findall(pattern, (other / ".env").read_text(), re.M))
    assert len(first_secrets) == len(second_secrets) == 3  # the three in ``pattern``
    assert not first_secrets & second_secrets


def test_the_application_starts_with_the_env_file(env_file, tmp_path):
    # Without the settings of the tests' own application.
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DJANGO_", "CAMPUS_"))
    }
    env |= {"CAMPUS_ENV_FILE": str(env_file), "CAMPUS_HOME": str(tmp_path / "home")}
    # Tokens can be encrypted, and the worker knows every scheduled task.
    script = (
        "import django; django.setup(); from usher.application.tokens import vault; "
        "from campus.worker import app; from django.conf import settings; "
        "assert vault.decrypt(vault.encrypt('x')) == 'x'; "
        "app.loader.import_default_modules(); "
        "scheduled = {entry['task'] for entry in settings.CELERY_BEAT_SCHEDULE.values()}; "
        "assert scheduled <= set(app.tasks)"
    )
    env |= {"DJANGO_SETTINGS_MODULE": "campus.settings", "PYTHONPATH": str(ROOT / "campus")}
    result = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_compose_file_names_existing_commands_files_and_services():
    compose = yaml.safe_load((ROOT / "compose.yml").read_text())
    services = compose["services"]
    assert set(services) == {"prepare", "web", "worker", "beat", "postgres", "redis"}
    for name in ("worker", "beat"):
        assert services[name]["command"][:4] == ["celery", "-A", "campus.worker", name]
    # Only the web server is published, and only for a proxy on this machine.
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"web": ["127.0.0.1:8013:8013"]}
    for service in services.values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        for dependency in service.get("depends_on", {}):
            assert dependency in services
    for name in ("prepare", "web", "worker", "beat"):
        assert services[name]["image"] == "usher-application"
        assert services[name]["pull_policy"] == "never"  # the image is in no registry
    # Only one service builds the image: with several builds the images would differ, and the next
    # `up` would re-create the containers.
    assert [name for name, service in services.items() if "build" in service] == ["prepare"]
    # Compose refuses to start without this setting.
    text = (ROOT / "compose.yml").read_text()
    assert "PASSWORD: ${POSTGRES_PASSWORD:?" in text
