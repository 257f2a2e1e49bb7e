"""Doctor for an application's own staff page: the same checks, run in the application's process."""

from collections.abc import Callable
from typing import Any

from usher.contract.application_report import ApplicationReport
from usher.doctor.context import Context
from usher.doctor.facts.application import Application
from usher.doctor.facts.lms import Lms
from usher.doctor.facts.web import Web
from usher.doctor.fixes import is_command
from usher.doctor.present import next_step
from usher.doctor.runner import run

_MARKS = {"ok": "✓", "note": "i", "warning": "!", "failed": "✗", "skipped": "–"}


def run_checks(
    read_report: Callable[[], ApplicationReport],
    *,
    application_url: str,
    lms_url: str,
    token: str,
) -> dict[str, Any]:
    """Runs all checks. Returns ``Report.to_dict`` with ``next``, the sentence about what to do
    first, and with ``mark`` and ``fix_is_command`` for each check.

    read_report: returns the application's report; called in another thread. token: the service
    worker's token, with which the LMS returns its report.
    """
    web = Web()
    application = Application(web, application_url, read_report=read_report)
    with Context(Lms(web, lms_url, token), application, web=web) as context:
        report = run(context)
    data = report.to_dict()
    for line in data["checks"]:
        line["mark"] = _MARKS[line["status"]]
        line["fix_is_command"] = is_command(line["fix"])
    return {**data, "next": next_step(report)}
