"""What doctor gives the programs that it asks."""

import sys
from pathlib import Path

import pytest

from usher.contract.throwaway import is_throwaway, new_name
from usher.doctor.find import Wishes, places

TELLS = "import json, os; print(json.dumps([os.environ['TOLD'], os.environ['KEPT']]))"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("USHER_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KEPT", "from the environment")
    (tmp_path / "manage.py").write_text("")
    (tmp_path / ".env").write_text("TOLD=yes\nKEPT=\n")
    return tmp_path


def test_an_application_without_containers_is_given_its_env_file(checkout: Path):
    manage = places(Wishes(application=str(checkout), manage=sys.executable)).manage
    assert manage is not None
    assert manage.output("-c", TELLS).strip() == '["yes", "from the environment"]'
    assert "TOLD" not in manage.shown("shell")


def test_containers_read_their_env_file_themselves(checkout: Path):
    given = "docker compose exec -T web ./manage.py"
    manage = places(Wishes(application=str(checkout), manage=given)).manage
    assert manage is not None
    assert manage.env_file is None


def test_accounts_of_test_learners_are_told_from_others():
    assert is_throwaway(new_name("usher-test"))
    assert is_throwaway("doctor-547c5879")
    assert not any(map(is_throwaway, ("doctor-who", "usher-test-", "xdoctor-547c5879")))
