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
    """The folder of the file of connections, which does not exist yet."""
    monkeypatch.setenv("USHER_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


def make_connection(name: str = "shop", root: str = "/root/a") -> Connection:
    """A connection of the application ``name`` to the LMS of the Tutor root ``root``."""
    return Connection(
        name=name,
        application=f"/checkouts/{name}",
        lms_url="http://lms.example",
        tutor_root=root,
    )


def test_a_connection_is_listed_until_it_is_forgotten(home: Path):
    assert connections.read_all() == []
    connections.remember(make_connection())
    connections.remember(make_connection(root="/root/b"))
    connections.mark_verified(("/root/a", "shop"))
    first, second = connections.read_all()
    assert (first.tutor_root, bool(first.verified)) == ("/root/a", True)
    assert (second.tutor_root, second.verified) == ("/root/b", "")
    connections.remember(make_connection())  # connected again: not verified yet
    assert [connection.verified for connection in connections.read_all()] == ["", ""]
    connections.forget("/root/b", "shop")
    assert [connection.tutor_root for connection in connections.read_all()] == ["/root/a"]


def test_only_the_owner_can_read_the_file(home: Path):
    connections.remember(make_connection())
    (file,) = home.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_forgetting_the_last_connection_deletes_the_file_and_leftovers_of_killed_writes(home: Path):
    connections.remember(make_connection("shop"))
    connections.remember(make_connection("museum"))
    connections.remember(make_connection(root="/root/b"))
    (home / ".connections.json.usher-killed").write_text("{")
    connections.forget("/root/a")
    assert [connection.key for connection in connections.read_all()] == [("/root/b", "shop")]
    connections.forget("/root/b", "shop")
    assert list(home.iterdir()) == []
    connections.forget("/root/b", "shop")  # forgetting a connection twice is no error


def test_connections_of_concurrent_processes_are_all_kept(home: Path):
    script = (
        "import sys; from usher.contract import connections\n"
        "for number in range(20): connections.remember(connections.Connection("
        "f'{sys.argv[1]}-{number}', '/checkout', 'http://lms.example', tutor_root='/root/a'))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(number)]) for number in range(8)]
    assert [writer.wait(300) for writer in writers] == [0] * 8
    assert len({connection.name for connection in connections.read_all()}) == 8 * 20


def test_fields_of_a_newer_version_are_ignored(home: Path):
    connections.remember(make_connection())
    file = home / "connections.json"
    data = json.loads(file.read_text())
    data["connections"][0]["colour"] = "blue"
    file.write_text(json.dumps(data))
    assert connections.read_all() == [make_connection()]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"connections": [{"name": "a"}]}', pytest.param("[" * 9999, id="deep")]
)
def test_a_malformed_file_is_named_in_the_error_and_kept(home: Path, text: str):
    home.mkdir()
    file = home / "connections.json"
    file.write_text(text)
    with pytest.raises(ConnectionsError, match=r"connections\.json can't be read"):
        connections.remember(make_connection())
    assert file.read_text() == text
