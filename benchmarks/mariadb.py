"""Runs a MariaDB server, if Debian's package is installed.

If ``MYSQL_PORT`` is set, uses the server at that port of 127.0.0.1 instead, such as another version
or MySQL. Connects as ``root`` without a password. Drops and creates databases whose names start
with ``usher_test``.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usher.embedded.home.process import free_port

#: The server's configuration file. No data must survive a crash: commits don't wait for the disk.
SETTINGS = """[mysqld]
datadir={base}/data
socket={base}/socket
pid-file={base}/pid
log-error={base}/log
port={port}
bind-address=127.0.0.1
character-set-server=utf8mb4
collation-server=utf8mb4_unicode_ci
innodb_flush_log_at_trx_commit=0
{user}
"""


def missing_requirement() -> str:
    """What must be installed before a server can be started; '' if nothing."""
    is_installed = shutil.which("mariadbd") and shutil.which("mariadb-install-db")
    has_running_server = os.environ.get("MYSQL_PORT")
    if not is_installed and not has_running_server:
        return "MariaDB is not installed (apt-get install mariadb-server)"
    if importlib.util.find_spec("MySQLdb") is None:
        return "the package mysqlclient is not installed (pip install mysqlclient)"
    return ""


@dataclass(frozen=True)
class MariaDb:
    port: int

    def url(self, database: str) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/{database}"

    def rows(self, database: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Executes SQL and commits. Returns the rows of a select."""
        import MySQLdb

        connection = MySQLdb.connect(
            host="127.0.0.1", port=self.port, user="root", database=database
        )
        with closing(connection):
            with closing(connection.cursor()) as cursor:
                cursor.execute(sql, values or None)
                rows = list(cursor.fetchall())
            connection.commit()
            return rows

    def deadlocks(self) -> int:
        """How many deadlocks InnoDB has counted since the server's start."""
        # ``count`` is a column of this table.
        sql = "select count from information_schema.innodb_metrics where name = 'lock_deadlocks'"
        return int(self.rows("mysql", sql)[0][0])


@contextmanager
def mariadb(*databases: str) -> Iterator[MariaDb]:
    """A server with empty databases of these names: the running server at MYSQL_PORT, or else a new
    one. For the packages that a server needs, see ``missing_requirement``."""
    port_of_running_server = os.environ.get("MYSQL_PORT")
    if port_of_running_server:
        server = MariaDb(int(port_of_running_server))
        _recreate_databases(server, databases)
        yield server
    else:
        with _new_server() as server:
            _recreate_databases(server, databases)
            yield server


@contextmanager
def _new_server() -> Iterator[MariaDb]:
    """Starts a server, which is stopped and deleted at the end of the block."""
    base = Path(tempfile.mkdtemp(prefix="usher-mdb-"))
    port = free_port()
    settings = base / "my.cnf"
    # The server starts as root only if its settings say so.
    user = "user=root" if Path.home().owner() == "root" else ""
    settings.write_text(SETTINGS.format(base=base, port=port, user=user))
    process: subprocess.Popen[bytes] | None = None
    try:
        subprocess.run(
            [
                "mariadb-install-db",
                f"--defaults-file={settings}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            check=True,
            capture_output=True,
            timeout=300,
        )
        process = subprocess.Popen(
            ["mariadbd", f"--defaults-file={settings}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        server = MariaDb(port)
        _wait_until_ready(server, process)
        yield server
    finally:
        if process is not None:
            process.terminate()
            process.wait(60)
        shutil.rmtree(base, ignore_errors=True)


def _recreate_databases(server: MariaDb, names: Sequence[str]) -> None:
    for name in names:
        server.rows("mysql", f"drop database if exists {name}")
        server.rows("mysql", f"create database {name} character set utf8mb4")


def _wait_until_ready(server: MariaDb, process: subprocess.Popen[bytes]) -> None:
    """Raises MySQLdb.Error if the process ended, or after two minutes."""
    import MySQLdb

    deadline = time.monotonic() + 120
    while True:
        try:
            server.rows("mysql", "select 1")
            return
        except MySQLdb.Error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
