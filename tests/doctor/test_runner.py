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
from usher.doctor.context import CONNECTED, Context, Places, create_context
from usher.doctor.docs import build_pages
from usher.doctor.facts.memo import NotApplicableError, NotKnownError, fact
from usher.doctor.present import next_step, show
from usher.doctor.runner import Line, UnknownCheckError, run

#: The catalogue of faults: family → number of its checks.
CATALOGUE = {
    "NET": 6,
    "TUT": 8,
    "LMS": 11,
    "PRV": 6,
    "APP": 10,
    "SVC": 6,
    "OAU": 3,
    "ACC": 7,
    "CRS": 3,
    "ENR": 5,
    "OUT": 2,
    "ENV": 5,
    "OPS": 6,
    "CLK": 1,
}


@pytest.fixture
def empty_context() -> Context:
    """Doctor's context without an LMS or an application."""
    return create_context(Places())


@pytest.fixture
def own_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only five checks are registered: XXX-1 fails; XXX-2 depends on XXX-1, and XXX-3 on XXX-2;
    YYY-1 has no facts; ZZZ-1 raises an error."""
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
            raise AssertionError("it must not run")

    @registry.check
    class Third(Check):
        """The third thing."""

        id = "XXX-3"
        depends_on = ("XXX-2",)

        def probe(self, context: Context) -> Finding:
            raise AssertionError("it must not run")

    @registry.check
    class Unknown(Check):
        """What can't be known."""

        id = "YYY-1"

        def probe(self, context: Context) -> Finding:
            raise NotKnownError("no facts")

    @registry.check
    class Broken(Check):
        """A check with a mistake in it."""

        id = "ZZZ-1"

        def probe(self, context: Context) -> Finding:
            raise KeyError("x")


def test_every_id_of_the_catalogue_is_a_check() -> None:
    ids = {
        f"{family}-{number + 1}" for family, count in CATALOGUE.items() for number in range(count)
    }
    assert set(all_checks()) >= ids


def test_every_check_that_another_depends_on_exists() -> None:
    checks = all_checks()
    for check_class in checks.values():
        assert set(check_class.depends_on) <= set(checks), check_class.id


def test_the_documentation_is_up_to_date() -> None:
    folder = Path(__file__).parents[2] / "docs" / "doctor"
    text_by_name = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    assert text_by_name == build_pages(), "run: make docs"


def test_the_docstring_of_every_check_names_symptom_cause_and_fix() -> None:
    for check_class in all_checks().values():
        text = check_class.__doc__ or ""
        assert all(f"{word}:" in text for word in ("Symptom", "Cause", "Fix")), check_class.id


@pytest.mark.usefixtures("own_checks")
def test_checks_that_depend_on_a_failed_check_are_skipped(empty_context: Context) -> None:
    report = run(empty_context)
    by_id = {line.id: line for line in report.lines}
    assert by_id["XXX-2"].because == by_id["XXX-3"].because == "XXX-1"
    assert by_id["XXX-3"].finding.status is Status.SKIPPED
    assert by_id["XXX-3"].finding.seen == "not checked while XXX-1 fails"
    assert not report.healthy


@pytest.mark.usefixtures("own_checks")
def test_the_report_of_a_connected_application_says_that_a_check_failed(
    empty_context: Context,
) -> None:
    report = run(empty_context)
    report.stage = CONNECTED
    console = Console(record=True, width=100)
    show(report, console)
    assert "Connected, but not everything works" in console.export_text()


@pytest.mark.usefixtures("own_checks")
def test_a_check_without_facts_is_skipped_and_a_check_that_raises_another_error_fails(
    empty_context: Context,
) -> None:
    by_id = {line.id: line.finding for line in run(empty_context).lines}
    assert by_id["YYY-1"] == Finding(Status.SKIPPED, "no facts")
    assert by_id["ZZZ-1"].status is Status.FAILED
    assert "KeyError" in by_id["ZZZ-1"].seen


@pytest.mark.usefixtures("own_checks")
def test_a_named_check_is_reported_with_the_failed_check_that_prevented_it(
    empty_context: Context,
) -> None:
    report = run(empty_context, only=["xxx-3"])
    assert [(line.id, line.because) for line in report.lines] == [("XXX-1", ""), ("XXX-3", "XXX-1")]
    assert report.exit_code == 1
    assert next_step(report) == "Next: XXX-1: a command"


@pytest.mark.usefixtures("own_checks")
def test_a_named_check_that_can_not_run_has_exit_code_2(empty_context: Context) -> None:
    report = run(empty_context, only=["YYY-1"])
    assert report.exit_code == 2
    assert next_step(report) == "Next: YYY-1 could not be checked: no facts."


def test_an_unknown_id_is_refused(empty_context: Context) -> None:
    with pytest.raises(UnknownCheckError, match="no check NOPE-1"):
        run(empty_context, only=["NOPE-1"])


def test_without_any_facts_no_check_fails_and_essential_checks_are_unproven(
    empty_context: Context,
) -> None:
    report = run(empty_context)
    assert report.root_causes == []
    assert report.exit_code == 3
    text_of_next_step = next_step(report)
    for name in ("NET-2", "PRV-5", "APP-1", "SVC-1", "OAU-1"):  # sign-in, tokens, accounts
        assert name in {line.id for line in report.unproven}
        assert name in text_of_next_step
    assert f"{len(report.unproven)} essential checks could not be made" in text_of_next_step
    data = report.to_dict()
    assert (data["healthy"], data["proven"], data["exit_code"]) == (True, False, 3)
    assert set(data["not_checked"]) >= {line.id for line in report.unproven}


@pytest.mark.parametrize(
    ("essential", "exit_code", "text_of_next_step"),
    [
        (True, 3, "Next: 1 essential check could not be made (AAA-1): no facts"),
        (False, 0, "Next: nothing to do. 1 check could not be made (AAA-1): no facts"),
    ],
)
def test_checks_that_could_not_be_made_are_counted_and_named(
    empty_context: Context,
    own_checks: None,
    essential: bool,
    exit_code: int,
    text_of_next_step: str,
) -> None:
    """AAA-1 has no facts. AAA-2 does not apply, so it is not counted."""
    registry._REGISTERED.clear()

    class Unknown(Check):
        """A check without facts."""

        id = "AAA-1"

        def probe(self, context: Context) -> Finding:
            raise NotKnownError("no facts")

    class NotApplicable(Check):
        """A check of something that this deployment does not have."""

        id = "AAA-2"
        essential = True

        def probe(self, context: Context) -> Finding:
            raise NotApplicableError("there is none")

    Unknown.essential = essential
    registry.check(Unknown)
    registry.check(NotApplicable)
    report = run(empty_context)
    assert [line.id for line in report.unknown] == ["AAA-1"]
    assert (report.exit_code, next_step(report)) == (exit_code, text_of_next_step)
    report.stage = "connected"
    console = Console(record=True, width=100)
    show(report, console)
    text = console.export_text()
    # Without an essential check it is not known whether the connection works.
    assert ("Connected." in text) == (not essential)
    assert text_of_next_step in text


@pytest.mark.usefixtures("own_checks")
def test_checks_run_concurrently(empty_context: Context) -> None:
    barrier = threading.Barrier(5, timeout=60)  # lets the five checks pass only together
    for number in range(5):

        class Meets(Check):
            """Waits for the others."""

            id = f"MMM-{number}"

            def probe(self, context: Context) -> Finding:
                barrier.wait()
                return ok("met")

        Meets.__qualname__ = f"Meets{number}"
        registry.check(Meets)
    report = run(empty_context, only=[f"MMM-{number}" for number in range(5)])
    assert [line.finding.seen for line in report.lines] == ["met"] * 5


def test_a_fact_is_collected_once_even_if_it_raises_an_error() -> None:
    class Facts:
        calls = 0

        @fact
        def number(self) -> int:
            self.calls += 1
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
    assert facts.calls == 1
    assert len(errors) == 8


def test_the_example_in_the_documentation_is_a_working_check(own_checks: None) -> None:
    page = (Path(__file__).parents[2] / "docs/doctor/README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    scope: dict[str, Any] = {"__name__": "shop.doctor"}
    exec(code, scope)
    assert registry._REGISTERED["SHOP-1"].title() == "The catalogue is fresh"
    for http_status, expected_status in ((200, "ok"), (500, "failed")):
        answer = SimpleNamespace(status_code=http_status)
        application = SimpleNamespace(get=lambda path, answer=answer: answer)
        finding = scope["CatalogueIsFresh"]().probe(SimpleNamespace(application=application))
        assert finding.status == expected_status


LONG_COMMAND = f"usher demo --home /{'long/' * 20}home"


@pytest.mark.parametrize(
    ("fix", "lines"),
    [
        (
            "usher demo --provision (registers the address)",
            ["fix:   usher demo --provision", "(registers the address)"],
        ),
        (LONG_COMMAND, ["fix:", LONG_COMMAND]),
        (
            "correct the address in the settings of the application, then restart it",
            ["fix:   correct the address in the settings of the application,", "then restart it"],
        ),
    ],
)
def test_a_command_in_a_fix_is_on_a_line_of_its_own(
    empty_context: Context, fix: str, lines: list[str]
) -> None:
    report = run(empty_context)
    # The report shows only this check.
    finding = failed("wrong", cause="a reason", fix=fix)
    report.lines = [Line("APP-1", title="A title", finding=finding)]
    console = Console(record=True, width=200)
    show(report, console)
    data = [line.strip() for line in console.export_text().splitlines()]
    start = next(number for number, line in enumerate(data) if line.startswith("fix:"))
    assert data[start : start + len(lines)] == lines


@pytest.mark.parametrize(
    ("reasons", "ending"),
    [
        (["no facts"] * 3 + ["no users yet"], "AAA-1 to AAA-4): no facts"),
        (["no facts"] * 2 + ["no users yet", "no worker"], "; their reasons are listed"),
    ],
)
def test_the_next_step_names_the_reason_that_most_skipped_checks_have(
    empty_context: Context, reasons: list[str], ending: str
) -> None:
    report = run(empty_context, only=["ENV-1"])
    # As if doctor had made all checks, and these were all.
    report.named_ids = frozenset()
    report.lines = [
        Line(f"AAA-{number}", title="", finding=Finding(Status.SKIPPED, reason))
        for number, reason in enumerate(reasons, start=1)
    ]
    assert next_step(report).endswith(ending)
