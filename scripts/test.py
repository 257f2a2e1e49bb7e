"""Runs the test suite and ends with one line of totals.

All tests of a group need the same Django settings and the same kind of database. Each group is one
process, so that servers shared by its tests are started once. Several groups run at a time, the
longest first:

    python scripts/test.py [--all | GROUP ...] [-- pytest arguments]

Without arguments, tests that are marked slow and those on PostgreSQL are left out. ``--all`` runs
everything, and a group that is named runs whole. Reports with the time of each test are left in
``build/tests/GROUP.xml``.

If several groups ran and only a few tests failed, these are run once more, one at a time. Tests
that pass then are named at the end: they fail only on a busy machine, which is a fault to find.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "build" / "tests"
#: Arguments of pytest that leave out the slow tests.
NOT_SLOW = ("-m", "not slow")
#: pytest's exit codes if tests failed and there was no other error, and if no test was selected.
FAILED, NONE_SELECTED = 1, 5
#: The most failed tests that are run once more; more failures have another cause than a busy
#: machine.
MOST_TESTS_TO_RERUN = 5

#: Groups that run at a time: one more than cores, because tests wait for servers.
GROUPS_AT_A_TIME = (os.cpu_count() or 1) + 1


@dataclass(frozen=True)
class Group:
    """A group of tests. workers: number of processes; several for a group that would take longer
    than all others."""

    name: str
    #: Arguments of pytest.
    arguments: tuple[str, ...]
    #: Whether the tests run on PostgreSQL, else on SQLite.
    on_postgresql: bool = False
    workers: int = 1


APPLICATION = ("--ds=campus.settings", "tests/client", "tests/application", "tests/campus")
#: The groups, the longest first.
GROUPS = (
    Group("application", APPLICATION),
    Group("connect", ("-p", "no:django", "tests/connect"), workers=2),
    Group("doctor", ("-p", "no:django", "tests/doctor")),
    Group("simulation", ("-p", "no:django", "tests/simulation")),
    Group("lms", ("-p", "no:django", "tests/lms", "tests/embedded")),
    Group("shell", ("-p", "no:django", "tests/contract", "tests/cli")),
    Group("application-postgresql", (*APPLICATION, "--only-database"), on_postgresql=True),
    Group("tutor", ("-p", "no:django", "tests/tutor")),
    Group("sidecar", ("-p", "no:django", "tests/sidecar")),
    Group("journeys", ("-p", "no:django", "tests/journeys")),
    Group("production", ("-p", "no:django", "tests/chaos", "tests/benchmarks", "tests/deploy")),
)


@dataclass
class Totals:
    """failed: names of the tests that failed, or whose fixtures failed."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: int = 0

    def add(self, report: Path) -> None:
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                self.failed.append(f"{case.get('classname')}.{case.get('name')}")
            elif case.find("skipped") is not None:
                self.skipped += 1
            else:
                self.passed += 1


@contextmanager
def postgresql() -> Iterator[str]:
    """Starts a PostgreSQL server, which is deleted afterwards. Yields its URL."""
    import pgserver

    with tempfile.TemporaryDirectory(prefix="usher-pg-") as folder:
        Path(folder).chmod(0o755)  # as root, the server runs as another user
        server_to_configure = pgserver.get_server(folder, cleanup_mode="stop")
        server_to_configure.psql("ALTER SYSTEM SET max_connections = 300;")
        server_to_configure.psql("ALTER SYSTEM SET fsync = off;")
        server_to_configure.cleanup()  # max_connections needs a restart
        server = pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


class Run:
    """Runs groups of tests and adds up their totals. pytest_arguments: for every group.
    shows_output: True to show output immediately, as for a single group; False to show it when the
    group ends."""

    def __init__(self, pytest_arguments: Sequence[str], *, shows_output: bool) -> None:
        self.pytest_arguments, self.shows_output = pytest_arguments, shows_output
        self.totals = Totals()
        #: Tests that failed and passed when they were run once more.
        self.passed_when_rerun: list[str] = []
        #: Groups, each with its tests, that ``rerun_failed`` runs once more.
        self._to_rerun: list[tuple[Group, list[str]]] = []
        self._print_lock = threading.Lock()
        self._totals_lock = threading.Lock()

    def run_group(self, group: Group) -> bool:
        """Runs a group. Returns whether it passed, or may pass when ``rerun_failed`` repeats its
        failed tests."""
        code, totals = self._run(group, self.pytest_arguments, f"{group.name}.xml")
        with self._totals_lock:
            self.totals.passed += totals.passed
            self.totals.skipped += totals.skipped
        is_only_group = self.shows_output
        has_few_failures = code == FAILED and len(totals.failed) <= MOST_TESTS_TO_RERUN
        if has_few_failures and not is_only_group:
            self._to_rerun.append((group, totals.failed))
            return True
        self.totals.failed += totals.failed
        return code == 0

    def rerun_failed(self) -> bool:
        """Runs the failed tests once more. Returns whether all pass."""
        tests: list[str] = []
        for _, failed in self._to_rerun:
            tests += failed
        if len(tests) > MOST_TESTS_TO_RERUN:
            self.totals.failed += tests
            return False
        all_passed = True
        only_failed = [*self.pytest_arguments, "--last-failed", "--last-failed-no-failures=none"]
        for group, failed in self._to_rerun:
            code, totals = self._run(group, only_failed, f"{group.name}-once-more.xml")
            all_passed = all_passed and code == 0
            self.totals.passed += totals.passed
            # A run that ended early has written no report, and has not shown that any test passes.
            self.totals.failed += totals.failed if code in (0, FAILED) else failed
        self.passed_when_rerun = [name for name in tests if name not in self.totals.failed]
        return all_passed

    def _run(
        self, group: Group, pytest_arguments: Sequence[str], report_name: str
    ) -> tuple[int, Totals]:
        """Runs pytest for the group. Returns its exit code, and the totals of its report, which is
        written to the file ``report_name``; without a report, all totals are zero."""
        started = time.monotonic()
        totals = Totals()
        report = REPORTS / report_name
        report.unlink(missing_ok=True)
        with tempfile.TemporaryFile() as output:
            self._print(f"== {group.name}")
            with postgresql() if group.on_postgresql else nullcontext("") as url:
                code = subprocess.run(
                    [*_command(group, report), *pytest_arguments],
                    cwd=ROOT,
                    env=_environment(url),
                    stdout=None if self.shows_output else output,
                    stderr=None if self.shows_output else subprocess.STDOUT,
                ).returncode
            output.seek(0)
            with self._print_lock:
                sys.stdout.write(output.read().decode(errors="replace"))
                if report.exists():
                    totals.add(report)
        self._print(f"== {group.name}: exit {code}, {time.monotonic() - started:.0f} s")
        if code == NONE_SELECTED and group.on_postgresql:
            self._print(
                "No test was selected. Of the tests that use an LMS, this group\n"
                "runs only those marked with each_database."
            )
        return code, totals

    def _print(self, line: str) -> None:
        with self._print_lock:
            print(line, flush=True)


def _command(group: Group, report: Path) -> list[str]:
    """The command line of pytest for this group, which writes ``report``."""
    # A test directory may be absent, as in a source distribution.
    absent_folders = {
        argument
        for argument in group.arguments
        if argument.startswith("tests/") and not (ROOT / argument).is_dir()
    }
    arguments = [argument for argument in group.arguments if argument not in absent_folders]
    parallel = ["-n", str(group.workers), "--dist", "loadgroup"] if group.workers > 1 else []
    # Groups run at the same time, so each has its own list of failed tests.
    cache = f"cache_dir={REPORTS / (group.name + '.cache')}"
    command = [sys.executable, "-m", "pytest", "-q", *parallel, *arguments]
    return [*command, "-o", cache, f"--junitxml={report}"]


def _environment(database_url: str) -> dict[str, str]:
    """The variables for a group's process. database_url: '' for SQLite."""
    # Hundreds of processes import the same modules. Without PYTHONDONTWRITEBYTECODE the first one
    # compiles them for all.
    left_out = {"DATABASE_URL", "PYTHONDONTWRITEBYTECODE"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**environment, "DATABASE_URL": database_url} if database_url else environment


def main(arguments: list[str]) -> int:
    """Runs the groups that the arguments name. Returns the exit code: 0 if all tests passed, 1 if
    not, 2 for an unknown group."""
    separator = arguments.index("--") if "--" in arguments else len(arguments)
    own_arguments, pytest_arguments = arguments[:separator], arguments[separator + 1 :]
    names = [argument for argument in own_arguments if argument != "--all"]
    groups_by_name = {group.name: group for group in GROUPS}
    if unknown := [name for name in names if name not in groups_by_name]:
        print(
            f"There is no group {unknown[0]!r}. Groups: {', '.join(groups_by_name)}",
            file=sys.stderr,
        )
        return 2
    if names:
        groups = [group for group in GROUPS if group.name in names]
    elif "--all" in own_arguments:
        groups = list(GROUPS)
    else:
        groups = [group for group in GROUPS if not group.on_postgresql]
        pytest_arguments = [*NOT_SLOW, *pytest_arguments]

    REPORTS.mkdir(parents=True, exist_ok=True)
    run = Run(pytest_arguments, shows_output=len(groups) == 1)
    with ThreadPoolExecutor(GROUPS_AT_A_TIME) as pool:
        all_passed = all(list(pool.map(run.run_group, groups)))
    # A group whose failed tests are run once more counted as passed so far.
    all_passed = run.rerun_failed() and all_passed

    totals = run.totals
    for name in run.passed_when_rerun:
        print(f"\n{name} failed while other tests ran and passed alone: find out why.")
    if os.environ.get("CI") and totals.skipped:
        print(f"\n{totals.skipped} tests were skipped; in CI every test must run.")
        all_passed = False
    print(f"\n{totals.passed} passed, {len(totals.failed)} failed, {totals.skipped} skipped")
    return 0 if all_passed else 1


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        raise SystemExit("\nStopped before the end.") from None
