"""Runs a MariaDB server, if Debian's package is installed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usher.embedded.home.process import free_port

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


def missing() -> str:
    """Why no server can be started; '' if one can."""
    if not (shutil.which("mariadbd") and shutil.which("mariadb-install-db")):
        return "MariaDB is not installed (apt-get install mariadb-server)"
    if importlib.util.find_spec("MySQLdb") is None:
        return "the package mysqlclient is not installed (pip install mysqlclient)"
    return ""


@dataclass(frozen=True)
class MariaDb:
    port: int
    socket: Path

    def url(self, database: str) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/{database}"

    def rows(self, database: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        import MySQLdb

        with closing(
            MySQLdb.connect(unix_socket=str(self.socket), user="root", database=database)
        ) as connection:
            with closing(connection.cursor()) as cursor:
                cursor.execute(sql, values or None)
                found = list(cursor.fetchall())
            connection.commit()
            return found

    def deadlocks(self) -> int:
        return int(self.rows("mysql", "show global status like 'Innodb_deadlocks'")[0][1])


@contextmanager
def mariadb(*databases: str) -> Iterator[MariaDb]:
    base = Path(tempfile.mkdtemp(prefix="usher-mdb-"))
    port = free_port()
    settings = base / "my.cnf"
    user = "user=root" if Path.home().owner() == "root" else ""
    settings.write_text(SETTINGS.format(base=base, port=port, user=user))
    server: subprocess.Popen[bytes] | None = None
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
        server = subprocess.Popen(
            ["mariadbd", f"--defaults-file={settings}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        found = MariaDb(port, base / "socket")
        _wait(found, server)
        for name in databases:
            found.rows("mysql", f"create database {name} character set utf8mb4")
        yield found
    finally:
        if server is not None:
            server.terminate()
            server.wait(60)
        shutil.rmtree(base, ignore_errors=True)


def _wait(found: MariaDb, server: subprocess.Popen[bytes]) -> None:
    import MySQLdb

    deadline = time.monotonic() + 120
    while True:
        try:
            found.rows("mysql", "select 1")
            return
        except MySQLdb.Error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
