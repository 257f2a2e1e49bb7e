"""Checks run concurrently, a failed check stops the checks that depend on it, and all checks are
documented."""

import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from usher.doctor import check as registry
from usher.doctor.check import Check, Finding, Status, all_checks, failed, ok
from usher.doctor.context import CONNECTED, Context, Places, look_at
from usher.doctor.docs import pages
from usher.doctor.facts.memo import NotApplicableError, NotKnownError, fact
from usher.doctor.present import next_step, show
from usher.doctor.runner import Line, UnknownCheckError, run

#: The catalogue of faults: family → number of its checks.
CATALOGUE = {
    **{"NET": 6, "TUT": 8, "LMS": 11, "PRV": 6, "APP": 10, "SVC": 6, "OAU": 3, "ACC": 7},
    **{"CRS": 3, "ENR": 5, "OUT": 2, "ENV": 4, "OPS": 6, "CLK": 1},
}


@pytest.fixture
def nothing_known() -> Context:
    return look_at(Places())


@pytest.fixture
def own_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.setattr(registry, "FAMILIES", ())

    @registry.check
    class First(Check):
        """The first thing."""

        id = "XXX-1"

        def probe(self, context: Context) -> Finding:
            return failed("it is wrong", cause="a reason", fix="a command")

    @registry.check
    class Second(Check):
        """The second thing."""

        id = "XXX-2"
        depends_on = ("XXX-1",)

        def probe(self, context: Context) -> Finding:
            raise AssertionError("it must not be asked")

    @registry.check
    class Third(Check):
        """The third thing."""

        id = "XXX-3"
        depends_on = ("XXX-2",)

        def probe(self, context: Context) -> Finding:
            raise AssertionError("it must not be asked")

    @registry.check
    class Unknown(Check):
        """What can't be known."""

        id = "YYY-1"

        def probe(self, context: Context) -> Finding:
            raise NotKnownError("nobody told")

    @registry.check
    class Broken(Check):
        """A check with a mistake in it."""

        id = "ZZZ-1"

        def probe(self, context: Context) -> Finding:
            raise KeyError("x")


def test_every_row_of_the_catalogue_is_a_check() -> None:
    ids = {
        f"{family}-{number + 1}" for family, count in CATALOGUE.items() for number in range(count)
    }
    assert set(all_checks()) >= ids


def test_dependencies_exist_and_come_first() -> None:
    checks = all_checks()
    for kind in checks.values():
        assert set(kind.depends_on) <= set(checks), kind.id


def test_the_documentation_is_up_to_date() -> None:
    folder = Path(__file__).parents[2] / "docs" / "doctor"
    text_by_name = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    assert text_by_name == pages(), "run: make docs"


def test_every_check_says_symptom_cause_and_fix() -> None:
    for kind in all_checks().values():
        text = kind.__doc__ or ""
        assert all(f"{word}:" in text for word in ("Symptom", "Cause", "Fix")), kind.id


@pytest.mark.usefixtures("own_checks")
def test_a_failed_check_stops_those_after_it(nothing_known: Context) -> None:
    report = run(nothing_known)
    by_id = {line.id: line for line in report.lines}
    assert by_id["XXX-2"].because == by_id["XXX-3"].because == "XXX-1"
    assert by_id["XXX-3"].finding.status is Status.SKIPPED
    assert by_id["XXX-3"].finding.seen == "not checked while XXX-1 fails"
    assert not report.healthy
    report.stage = CONNECTED
    console = Console(record=True, width=100)
    show(report, console)
    assert "Connected, but not everything works" in console.export_text()


@pytest.mark.usefixtures("own_checks")
def test_a_check_without_its_facts_is_skipped_and_a_check_that_crashes_fails(
    nothing_known: Context,
) -> None:
    by_id = {line.id: line.finding for line in run(nothing_known).lines}
    assert by_id["YYY-1"] == Finding(Status.SKIPPED, "nobody told")
    assert by_id["ZZZ-1"].status is Status.FAILED
    assert "KeyError" in by_id["ZZZ-1"].seen


@pytest.mark.usefixtures("own_checks")
def test_a_named_check_that_could_not_be_made_comes_with_its_root_cause(
    nothing_known: Context,
) -> None:
    report = run(nothing_known, only=["xxx-3"])
    assert [(line.id, line.because) for line in report.lines] == [("XXX-1", ""), ("XXX-3", "XXX-1")]
    assert report.exit_code == 1
    assert next_step(report) == "Next: XXX-1: a command"


@pytest.mark.usefixtures("own_checks")
def test_a_named_check_that_can_not_run_is_no_success(nothing_known: Context) -> None:
    report = run(nothing_known, only=["YYY-1"])
    assert report.exit_code == 2
    assert next_step(report) == "Next: YYY-1 could not be checked: nobody told."


def test_an_unknown_id_is_refused(nothing_known: Context) -> None:
    with pytest.raises(UnknownCheckError, match="no check NOPE-1"):
        run(nothing_known, only=["NOPE-1"])


def test_without_any_facts_no_check_fails_or_passes(nothing_known: Context) -> None:
    report = run(nothing_known)
    assert report.root_causes == []
    assert report.exit_code == 3
    said = next_step(report)
    for name in ("NET-2", "PRV-5", "APP-1", "SVC-1", "OAU-1"):  # sign-in, tokens, accounts
        assert name in {line.id for line in report.unproven}
        assert name in said
    assert f"{len(report.unproven)} essential checks could not be made" in said
    data = report.to_dict()
    assert (data["healthy"], data["proven"], data["exit_code"]) == (True, False, 3)
    assert set(data["not_checked"]) >= {line.id for line in report.unproven}


@pytest.mark.parametrize(
    ("essential", "code", "said"),
    [
        (True, 3, "Next: 1 essential check could not be made (AAA-1): nobody told"),
        (False, 0, "Next: nothing to do. 1 check could not be made (AAA-1): nobody told"),
    ],
)
def test_checks_that_could_not_be_made_are_counted_and_named(
    nothing_known: Context, own_checks: None, essential: bool, code: int, said: str
) -> None:
    registry._REGISTERED.clear()

    class Unknown(Check):
        """Nobody knows."""

        id = "AAA-1"

        def probe(self, context: Context) -> Finding:
            raise NotKnownError("nobody told")

    class Elsewhere(Check):
        """There is no such thing here."""

        id = "AAA-2"
        essential = True

        def probe(self, context: Context) -> Finding:
            raise NotApplicableError("there is none")

    Unknown.essential = essential
    registry.check(Unknown)
    registry.check(Elsewhere)
    report = run(nothing_known)
    assert [line.id for line in report.unknown] == ["AAA-1"]
    assert (report.exit_code, next_step(report)) == (code, said)
    report.stage = "connected"
    console = Console(record=True, width=100)
    show(report, console)
    text = console.export_text()
    assert ("Connected." in text) is not essential
    assert said in text


@pytest.mark.usefixtures("own_checks")
def test_checks_run_side_by_side(nothing_known: Context) -> None:
    together = threading.Barrier(5, timeout=60)
    for number in range(5):

        class Meets(Check):
            """Waits for the others."""

            id = f"MMM-{number}"

            def probe(self, context: Context) -> Finding:
                together.wait()
                return ok("met")

        Meets.__qualname__ = f"Meets{number}"
        registry.check(Meets)
    report = run(nothing_known, only=[f"MMM-{number}" for number in range(5)])
    assert [line.finding.seen for line in report.lines] == ["met"] * 5


def test_a_fact_is_gathered_once_and_its_error_is_remembered() -> None:
    class Facts:
        asked = 0

        @fact
        def number(self) -> int:
            self.asked += 1
            time.sleep(0.01)  # so that the other threads ask before the answer is known
            raise NotKnownError("no number")

    facts, errors = Facts(), []

    def ask() -> None:
        try:
            _ = facts.number
        except NotKnownError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert facts.asked == 1
    assert len(errors) == 8


def test_the_check_of_the_page(own_checks: None) -> None:
    page = (Path(__file__).parents[2] / "docs/doctor/README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    scope: dict[str, Any] = {"__name__": "shop.doctor"}
    exec(code, scope)
    assert registry._REGISTERED["SHOP-1"].title() == "The catalogue is fresh"
    for status, outcome in ((200, "ok"), (500, "failed")):
        answer = SimpleNamespace(status_code=status)
        application = SimpleNamespace(get=lambda path, answer=answer: answer)
        found = scope["CatalogueIsFresh"]().probe(SimpleNamespace(application=application))
        assert found.status == outcome


LONG = f"usher demo --home /{'long/' * 20}home"


@pytest.mark.parametrize(
    ("fix", "lines"),
    [
        (
            "usher demo --provision (registers the address)",
            ["fix:   usher demo --provision", "(registers the address)"],
        ),
        (LONG, ["fix:", LONG]),
        (
            "correct the address in the settings of the application, then restart it",
            ["fix:   correct the address in the settings of the application,", "then restart it"],
        ),
    ],
)
def test_a_command_that_corrects_is_on_a_line_of_its_own(
    nothing_known: Context, fix: str, lines: list[str]
) -> None:
    report = run(nothing_known)
    report.lines = [Line("APP-1", "A title", failed("wrong", cause="a reason", fix=fix))]
    console = Console(record=True, width=200)
    show(report, console)
    data = [line.strip() for line in console.export_text().splitlines()]
    start = next(number for number, line in enumerate(data) if line.startswith("fix:"))
    assert data[start : start + len(lines)] == lines


@pytest.mark.parametrize(
    ("reasons", "ends"),
    [
        (["nobody told"] * 3 + ["no people yet"], "AAA-1 to AAA-4): nobody told"),
        (["nobody told"] * 2 + ["no people yet", "no worker"], "; see the reasons above"),
    ],
)
def test_a_reason_is_named_if_it_is_that_of_most_checks(
    nothing_known: Context, reasons: list[str], ends: str
) -> None:
    report = run(nothing_known, only=["ENV-1"])
    report.asked, report.lines = (
        frozenset(),
        [
            Line(f"AAA-{number}", "", Finding(Status.SKIPPED, reason))
            for number, reason in enumerate(reasons, start=1)
        ],
    )
    assert next_step(report).endswith(ends)
