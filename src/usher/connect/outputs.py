"""Parsers for the output of the applications' own commands; their exit codes prove nothing.

The repair command of MITx Online and MIT xPro can print ``Repair Complete: 0 repaired, 12
failures`` and exit with 0. Usher's own commands exit with 1 if the LMS refused a learner, which is
not a fault of the connection.
"""

import json
import re

from usher.connect.errors import ToolFailed
from usher.connect.plan import Check
from usher.connect.process import Output
from usher.contract.failures import FailureClass

#: The summary of the commands: learners or runs changed, failed and, at some, unchanged.
_TALLY = re.compile(
    r"(?P<changed>\d+) (?:repaired|updated), (?P<failed>\d+) failures"
    r"(?:, (?P<unchanged>\d+) unchanged)?",
    re.I,
)
#: The reason in the repair command's line about a learner who could not be repaired.
_FAILURE = re.compile(r"Failed to repair \((.*)\)")
#: The last line of the traceback of an error in the program itself, not in a server that it calls.
_CRASH = re.compile(
    r"^\s*(?:\w+\.)*((?:Attribute|Type|Value|Name|Lookup|Import|ModuleNotFound|Key|Index|Field|UnboundLocal|"
    r"NotImplemented|Assertion|Recursion)Error)\b:?(.*)",
    re.MULTILINE,
)
_UNKNOWN_ARGUMENT = re.compile(r"unrecognized arguments?: (.*)")


def check_of_repair(command: str, output: Output) -> Check:
    """Returns the result of a command that creates missing LMS accounts."""
    tally = _TALLY.search(output.text)
    if tally is None:  # the command ended without an error and counts nothing
        return Check("repair", "ok", f"{command}: {_last_line(output.text)}")
    repaired, failed = int(tally["changed"]), int(tally["failed"])
    reasons = list(dict.fromkeys(_FAILURE.findall(output.text)))
    why = f": {reasons[0]}" if reasons else ""
    if failed and not repaired:
        return Check(
            "repair",
            "failed",
            f"{command}: none of {failed} learners could be repaired{why}",
            "look at the checks above and at the LMS's log; the command's exit code was 0",
        )
    if failed:
        return Check(
            "repair",
            "warning",
            f"{command}: {repaired} repaired, {failed} not repaired{why}",
            "the connection works; find out why the LMS refuses these learners",
        )
    if not repaired:
        return Check(
            "repair",
            "skipped",
            f"{command} found nobody to repair, which proves nothing: it skips learners who never "
            "signed in or signed up less than 5 minutes ago",
        )
    return Check("repair", "ok", f"{command}: {repaired} repaired, no failures")


def check_of_sync(command: str, output: Output) -> Check:
    """Returns the result of a command that reads course runs."""
    tally = _TALLY.search(output.text)
    if tally is None:  # the command ended without an error and counts nothing
        return Check("sync", "ok", f"{command}: {_last_line(output.text)}")
    read = int(tally["changed"]) + int(tally["unchanged"] or 0)
    failed = int(tally["failed"])
    if failed:
        return Check(
            "sync",
            "warning",
            f"{command}: {read} course runs read, {failed} not read",
            "usher drift --kind run names them: the LMS has no run with that course key, or the "
            "application does not accept its dates",
        )
    if not read:
        return Check(
            "sync", "skipped", f"{command} changed no course run: it found none, or none differs"
        )
    return Check("sync", "ok", f"{command}: {read} course runs read, no failures")


def check_of_summary(name: str, command: str, stdout: str) -> Check | None:
    """Returns the result of a command of an application built on Usher, run with ``--json``.

    Returns None if ``stdout`` has another format. A learner refused by the LMS is a warning only.
    """
    try:
        summary = json.loads(stdout.strip().splitlines()[-1])
        failed = summary["failed"]
        changed = summary["changed"]
        unchanged = summary["unchanged"]
        failures = summary["failures"]
    except (ValueError, LookupError, TypeError):
        return None
    counts = f"{command}: {changed} changed, {unchanged} unchanged"
    if not failed and not failures:  # a list that could not be read counts as no row
        return Check(name, "ok", f"{counts}, no failures")
    other_failures = [
        failure for failure in failures if failure["failure_class"] != FailureClass.REJECTED
    ]
    # An empty list if no failure is listed.
    examples = other_failures or failures
    example = examples[0] if examples else {}
    text = f"{counts}, {failed} failed: {example.get('what')}: {example.get('message')}"
    # Failures that are not listed may be of any class.
    if other_failures or failed > len(failures):
        return Check(name, "failed", text, "look at the checks above, then at the sync worker")
    fix = "the connection works; the application's admin lists the refusals and their reasons"
    return Check(name, "warning", text, fix)


def check_of_failure(name: str, command: str, error: ToolFailed) -> Check:
    """Returns the result of a command that failed."""
    text = str(error)
    if crash := _last_match(_CRASH, text):
        return Check(
            name,
            "warning",
            f"{command} crashes: {crash[1]}{':' if crash[2] else ''}{crash[2]}",
            "the application's own command has a bug, which does not affect the connection; "
            "report it to the application's maintainers",
        )
    if match := _UNKNOWN_ARGUMENT.search(text):
        return Check(name, "warning", f"{command} does not know the argument {match[1]}")
    return Check(name, "failed", text)


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    matches = list(pattern.finditer(text))
    return matches[-1] if matches else None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "done"
