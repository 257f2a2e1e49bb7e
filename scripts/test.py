"""Runs the whole test suite, group by group, and ends with one line of totals.

Groups differ in what Django settings, or which database, they need in process:

    python scripts/test.py [GROUP ...] [-- pytest arguments]
"""

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKERS = "2"


@dataclass(frozen=True)
class Group:
    name: str
    arguments: tuple[str, ...]
    database: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


APPLICATION = ("--ds=campus.settings", "tests/application", "tests/campus")
GROUPS = (
    Group("lms", ("-p", "no:django", "tests/lms", "tests/embedded")),
    Group("application", APPLICATION),
    Group("application-postgresql", APPLICATION, database=True),
    Group(
        "shell", ("-p", "no:django", "tests/contract", "tests/cli", "tests/connect", "tests/doctor")
    ),
    Group("tutor", ("-p", "no:django", "tests/tutor")),
    Group("journeys", ("-p", "no:django", "tests/journeys")),
    Group("production", ("-p", "no:django", "tests/chaos", "tests/benchmarks", "tests/deploy")),
)


@dataclass
class Totals:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, report: Path) -> None:
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            tests, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
            failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            self.passed += tests - failed - skipped
            self.failed += failed
            self.skipped += skipped


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, gone afterwards."""
    import pgserver

    with tempfile.TemporaryDirectory(prefix="usher-pg-") as folder:
        Path(folder).chmod(0o755)
        first = pgserver.get_server(folder, cleanup_mode="stop")
        first.psql("ALTER SYSTEM SET max_connections = 300;")
        first.psql("ALTER SYSTEM SET fsync = off;")
        first.cleanup()  # both settings want a restart
        server = pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def run_group(group: Group, extra: list[str], totals: Totals) -> bool:
    print(f"\n== {group.name}", flush=True)
    arguments = [a for a in group.arguments if not a.startswith("tests/") or (ROOT / a).is_dir()]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", WORKERS, "--dist", "loadgroup"]
        command += [*arguments, f"--junitxml={report}", *extra]
        environment = {**os.environ, **group.environment}
        started = time.monotonic()
        if group.database:
            with postgresql() as url:
                environment["DATABASE_URL"] = url
                code = subprocess.run(command, cwd=ROOT, env=environment).returncode
        else:
            environment.pop("DATABASE_URL", None)
            code = subprocess.run(command, cwd=ROOT, env=environment).returncode
        if report.exists():
            totals.add(report)
        print(f"== {group.name}: exit {code}, {time.monotonic() - started:.0f} s", flush=True)
        return code == 0


def main(arguments: list[str]) -> int:
    names, extra = arguments, []
    if "--" in arguments:
        at = arguments.index("--")
        names, extra = arguments[:at], arguments[at + 1 :]
    known = {group.name: group for group in GROUPS}
    if unknown := [name for name in names if name not in known]:
        print(f"no group {unknown[0]!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    totals, fine = Totals(), True
    for group in [known[name] for name in names] or GROUPS:
        fine = run_group(group, extra, totals) and fine
    if os.environ.get("CI") and totals.skipped:
        print(f"\n{totals.skipped} tests were skipped; in CI every test must run.")
        fine = False
    print(f"\n{totals.passed} passed, {totals.failed} failed, {totals.skipped} skipped")
    return 0 if fine else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
