"""The file of connections: its contents, its mode, and a file that can't be read."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from usher.contract import connections
from usher.contract.connections import Connection, ConnectionsError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("USHER_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


def connection(name: str = "shop", root: str = "/root/a") -> Connection:
    return Connection(name, f"/checkouts/{name}", "http://lms.example", tutor_root=root)


def test_a_connection_is_known_until_it_is_forgotten(home: Path):
    assert connections.read_all() == []
    connections.remember(connection())
    connections.remember(connection(root="/root/b"))
    connections.mark_verified(("/root/a", "shop"))
    first, second = connections.read_all()
    assert (first.tutor_root, bool(first.verified)) == ("/root/a", True)
    assert (second.tutor_root, second.verified) == ("/root/b", "")
    connections.remember(connection())  # connected again: not verified yet
    assert [each.verified for each in connections.read_all()] == ["", ""]
    connections.forget("/root/b", "shop")
    assert [each.tutor_root for each in connections.read_all()] == ["/root/a"]


def test_the_file_is_closed_to_others(home: Path):
    connections.remember(connection())
    (file,) = home.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_forgetting_the_last_connection_deletes_the_file_and_leftovers_of_killed_writes(home: Path):
    connections.remember(connection("shop"))
    connections.remember(connection("museum"))
    connections.remember(connection(root="/root/b"))
    (home / ".connections.json.killed").write_text("{")
    connections.forget("/root/a")
    assert [each.key for each in connections.read_all()] == [("/root/b", "shop")]
    connections.forget("/root/b", "shop")
    assert list(home.iterdir()) == []
    connections.forget("/root/b", "shop")


def test_concurrent_processes_lose_nothing(home: Path):
    script = (
        "import sys; from usher.contract import connections\n"
        "for number in range(20): connections.remember(connections.Connection("
        "f'{sys.argv[1]}-{number}', '/checkout', 'http://lms.example', tutor_root='/root/a'))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(each)]) for each in range(8)]
    assert [writer.wait(300) for writer in writers] == [0] * 8
    assert len({each.name for each in connections.read_all()}) == 160


def test_fields_of_a_newer_version_are_left_out(home: Path):
    connections.remember(connection())
    file = home / "connections.json"
    data = json.loads(file.read_text())
    data["connections"][0]["colour"] = "blue"
    file.write_text(json.dumps(data))
    assert connections.read_all() == [connection()]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"connections": [{"name": "a"}]}'])
def test_a_file_that_cannot_be_read_is_named_and_kept(home: Path, text: str):
    home.mkdir()
    file = home / "connections.json"
    file.write_text(text)
    with pytest.raises(ConnectionsError, match=r"connections\.json can't be read"):
        connections.remember(connection())
    assert file.read_text() == text
