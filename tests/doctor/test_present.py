"""The report for people: failures come first, passed checks are summed up, and the next step is the
fix of the deepest cause."""

import ast
import re
from pathlib import Path

import pytest
from rich.console import Console

from usher.doctor.check import (
    Finding,
    all_checks,
    failed,
    not_applicable,
    note,
    ok,
    skipped,
    title_of_family,
    warning,
)
from usher.doctor.context import CONNECTED
from usher.doctor.present import next_step, shorten_ids, show
from usher.doctor.runner import Line, Report

SOURCES = Path(__file__).parents[2] / "src" / "usher"


def line(check_id: str, finding: Finding, *, needs: str = "", because: str = "") -> Line:
    """needs: the ids of the checks on which it depends, separated by spaces. because: the id of the
    failed check because of which it was skipped."""
    return Line(
        id=check_id,
        title=f"Title of {check_id}",
        finding=finding,
        because=because,
        needs=frozenset(needs.split()),
        family=title_of_family(check_id.partition("-")[0]),
    )


def shown(report: Report, *, verbose: bool = False) -> list[str]:
    """The lines that doctor prints for this report."""
    console = Console(record=True, width=200)
    show(report, console, verbose=verbose)
    return console.export_text().splitlines()


@pytest.mark.parametrize("verbose", [True, False])
@pytest.mark.parametrize(
    ("finding", "mark"),
    [
        (failed("the token expired", cause="c", fix="f"), "✗ failed  SVC-1  "),
        (warning("the token expired", cause="c", fix="f"), "! warning SVC-1  "),
        (note("the token expired", cause="c"), "i note    SVC-1  "),
    ],
)
def test_the_headline_of_a_finding_says_what_is_wrong(
    finding: Finding, mark: str, verbose: bool
) -> None:
    checked_line = line("SVC-1", finding)
    lines = shown(Report([checked_line]), verbose=verbose)
    place = lines.index(f"{mark}the token expired")
    assert lines[place + 1].strip() == "check: Title of SVC-1"
    assert checked_line.to_dict()["headline"] == "the token expired"
    assert checked_line.to_dict()["title"] == "Title of SVC-1"


@pytest.mark.parametrize("finding", [ok("it lasts"), skipped("the token is not known")])
def test_the_headline_of_a_passed_or_skipped_check_is_its_title(finding: Finding) -> None:
    lines = shown(Report([line("SVC-1", finding)]), verbose=True)
    assert lines[0].endswith(f"SVC-1  Title of SVC-1  {finding.seen}")
    assert line("SVC-1", finding).headline == "Title of SVC-1"


def test_headlines_of_findings_begin_without_a_pronoun() -> None:
    """The headline is printed without the check's title, to which a pronoun would refer."""
    # Functions with the headline among their positional arguments.
    functions = ("failed", "warning", "note", "_failed", "_wrong_address", "_refused")
    sentences = []
    for path in sorted((SOURCES / "doctor" / "checks").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in functions:
                    texts = map(ast.unparse, node.args)
                    sentences += [text.lstrip("f").strip("'\"") for text in texts]
    assert sentences
    assert [text for text in sentences if text.startswith(("it ", "its ", "they "))] == []


def test_the_short_report_has_a_line_for_each_family() -> None:
    without_tutor = not_applicable("the LMS is an embedded one")
    report = Report(
        [
            line("NET-1", ok("a")),
            line("NET-2", ok("b")),
            *(line(f"TUT-{number}", without_tutor) for number in (1, 2, 3, 7)),
            line("TUT-8", ok("c")),
            line("OAU-3", not_applicable("no client")),
            line("JOURNEY", ok("signed in")),
        ]
    )
    assert shown(report) == [
        "✓ ok      NET    2 ok             Addresses: names, ports and schemes",
        "✓ ok      TUT    1 ok, 4 skipped  Tutor: its command, its root, its rendered",
        "                                  files, its images",
        "- skipped OAU    1 skipped        The application's own OAuth client at the LMS,",
        "                                  used to obtain learners' tokens",
        "✓ ok      JOURNEY Title of JOURNEY  signed in",
        "",
        "- skipped TUT-1 to TUT-3, TUT-7: the LMS is an embedded one",
        "- skipped OAU-3: no client",
        "",
        "4 ok, 0 notes, 0 warnings, 0 failed, 5 skipped, in 0.0 seconds",
        "Each check: usher doctor --verbose",
        "Next: nothing to do.",
    ]
    lines = shown(report, verbose=True)
    assert [text.split()[2] for text in lines[:9]] == [each.id for each in report.lines]
    assert "Each check: usher doctor --verbose" not in lines


def test_the_short_report_names_the_title_of_every_family() -> None:
    console = Console(record=True, width=200)
    report = Report([line(name, ok("x")) for name in all_checks()])
    show(report, console)
    rows = [text for text in console.export_text().splitlines() if text.startswith("✓")]
    assert len(rows) == len({name.split("-")[0] for name in all_checks()})
    assert all(re.search(r"\d ok +\w", text) for text in rows)


def test_three_or_more_consecutive_ids_are_shortened_to_a_range() -> None:
    assert shorten_ids([]) == []
    assert shorten_ids(["A-1", "A-2", "B-3", "B-5", "B-6", "B-7", "JOURNEY"]) == [
        "A-1, A-2",
        "B-3",
        "B-5 to B-7",
        "JOURNEY",
    ]


def test_the_next_step_is_the_deepest_cause() -> None:
    """OPS-6 comes before CRS-2 in the report, but CRS-2 is the cause of OPS-6."""
    report = Report(
        [
            line("OPS-6", warning("refused", cause="c", fix="retry"), needs="CRS-2 NET-1"),
            line("CRS-2", warning("malformed", cause="c", fix="correct it"), needs="NET-1"),
            line("ENR-1", warning("refused", cause="c", fix="retry"), needs="CRS-1 CRS-2"),
            line("CRS-1", warning("missing", cause="c", fix="publish it"), needs="CRS-2"),
        ]
    )
    assert [cause.id for cause in report.root_causes] == ["CRS-2", "OPS-6", "CRS-1", "ENR-1"]
    assert next_step(report) == "Next: CRS-2: correct it"


def test_a_failure_comes_before_a_warning_unless_the_warning_is_its_cause() -> None:
    report = Report(
        [
            line("SVC-5", warning("the token ends soon", cause="c", fix="renew")),
            line("PRV-1", warning("no record yet", cause="c", fix="provision")),
            line("PRV-5", failed("the secret is wrong", cause="c", fix="connect"), needs="PRV-1"),
        ]
    )
    assert [cause.id for cause in report.root_causes] == ["PRV-1", "PRV-5", "SVC-5"]


def test_a_failed_dependency_of_a_named_check_says_why_it_is_shown() -> None:
    report = Report(
        [
            line("NET-3", failed("no answer", cause="c", fix="start the LMS")),
            line(
                "OPS-6",
                skipped("not checked while NET-3 fails"),
                needs="NET-3",
                because="NET-3",
            ),
        ],
        named_ids=frozenset({"OPS-6"}),
    )
    lines = shown(report)
    reason = "shown: because of it, OPS-6 was not checked"
    assert [text.strip() for text in lines].index(reason) < lines.index(
        "- skipped OPS-6  Title of OPS-6  not checked while NET-3 fails"
    )


def test_a_report_of_named_checks_does_not_say_connected() -> None:
    report = Report(
        [line("NET-1", ok("resolves"))], stage=CONNECTED, named_ids=frozenset({"NET-1"})
    )
    assert shown(report)[-2:] == [
        "Only the checks named by --only, and their dependencies, were made.",
        "All checks: usher doctor",
    ]
    # Nor if the named check failed; then there is something to do next.
    report.lines = [line("NET-1", failed("no name", cause="c", fix="f"))]
    text = "\n".join(shown(report))
    assert "Next: NET-1: f" in text
    assert "Connected" not in text


def test_lines_have_at_most_80_columns() -> None:
    """Only words and commands that can't be wrapped may be longer."""
    text = "the quick brown fox jumps over the lazy dog " * 6
    essential = Line("APP-1", text, skipped(text), essential=True)
    for report in (
        Report([essential], stage=CONNECTED),
        Report([line("NET-1", failed(text, cause=text, fix=text))], stage=CONNECTED),
        Report([line("NET-1", note(text, cause=text)), line("NET-2", ok(text))]),
        Report([essential], named_ids=frozenset({"APP-1"})),
    ):
        for verbose in (True, False):
            lines = shown(report, verbose=verbose)
            assert [each for each in lines if len(each) > 80] == []


def test_a_wrapped_command_in_a_fix_can_be_copied() -> None:
    command = f"(cd /srv/shop && python manage.py reconcile --kind run {'--recheck ' * 9}--wait 60)"
    report = Report([line("OPS-6", warning("w", cause="c", fix=f"remove it, then {command}"))])
    lines = shown(report)
    assert [each for each in lines if len(each) > 80] == []
    for previous_line in (f"{'':17}fix:   remove it, then", "Next: OPS-6: remove it, then"):
        place = lines.index(previous_line) + 1
        copied = "\n".join(lines[place : place + 3]).replace("\\\n", " ")
        assert copied.split() == command.split()


@pytest.mark.parametrize(
    ("silent_servers", "summary"),
    [
        (["the application"], "Set up, but the application does not answer."),
        (["the LMS"], "Set up, but the LMS does not answer."),
        (
            ["the application", "the LMS"],
            "Set up, but the application and the LMS do not answer.",
        ),
        # A failure although every server answers.
        ([""], "Connected, but not everything works: see ✗ above."),
    ],
)
def test_the_summary_names_the_servers_that_do_not_answer(
    silent_servers: list[str], summary: str
) -> None:
    findings = [
        failed("no answer", cause="c", fix="start it", silent_server=each)
        for each in silent_servers
    ]
    lines = [line(f"NET-{number}", each) for number, each in enumerate(findings, 2)]
    assert summary in shown(Report(lines, stage=CONNECTED))


def docstring_nodes(tree: ast.Module) -> set[ast.expr]:
    """The nodes of the tree that are docstrings, or other values at the beginning of a block."""
    nodes = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr):
                nodes.add(first.value)
    return nodes


def test_no_message_names_a_page_of_the_repository() -> None:
    """People who installed the wheel do not have ``docs/``. Messages of the demo may name a page,
    because the demo runs in a checkout only."""
    texts = []
    for path in sorted(SOURCES.rglob("*.py")):
        tree = ast.parse(path.read_text())
        docstrings = docstring_nodes(tree)
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and node not in docstrings and "docs/" in node.value:
                texts.append(f"{path.relative_to(SOURCES)}: {node.value}")
    allowed = ("doctor/docs.py", "doctor/check.py", "cli/demo/command.py")
    assert [text for text in texts if not text.startswith(allowed)] == []
