"""Doctor's last run, compared with the run before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.core.cache import cache
from django.utils.module_loading import import_string

from usher.application.health.staff import examine
from usher.console.doctor.models import DoctorRun

#: A dotted name, because an application can be installed without the doctor package.
_DOCTOR = "usher.doctor.staff.run_checks"
#: The most runs that are stored.
MAX_RUNS = 20
#: The cache key that exists while the checks run.
_LOCK = "usher-console-doctor"
#: Seconds after which a process that has not ended its checks counts as killed.
_LOCK_SECONDS = 120
#: The statuses of checks, worst first.
_ORDER = ("failed", "warning", "skipped", "note", "ok")
#: Status of a check → its name for people.
_STATUS_LABELS = {
    "failed": "Failed",
    "warning": "Warning",
    "note": "Note",
    "skipped": "Not checked",
    "ok": "Passed",
}
#: The prefix of a check's id → the group's name.
AREAS = {
    "ACC": "LMS accounts",
    "APP": "The application as identity provider",
    "CLK": "Clocks",
    "CRS": "Course runs",
    "ENR": "Enrollments",
    "ENV": "Settings",
    "LMS": "Settings of the LMS",
    "NET": "Network",
    "OAU": "OAuth2 clients",
    "OPS": "Workers and queues",
    "OUT": "Signing out",
    "PRV": "Provider record in the LMS",
    "SVC": "Service worker",
    "TUT": "Tutor",
}


class NoDoctor(RuntimeError):
    """The checks are not installed."""


class AlreadyRunning(RuntimeError):
    """The checks are already being run."""


@dataclass(frozen=True)
class Line:
    """The result of one check. title: what the check expects; headline: what is wrong, otherwise
    the title. previous_status: the status in the run before; '' if it was the same, or if the check
    did not run then."""

    id: str
    title: str
    headline: str
    status: str
    seen: str
    cause: str = ""
    fix: str = ""
    fix_is_command: bool = False
    previous_status: str = ""

    @property
    def status_label(self) -> str:
        return _STATUS_LABELS.get(self.status, self.status)

    @property
    def is_problem(self) -> bool:
        return self.status in ("failed", "warning")


@dataclass(frozen=True)
class Area:
    """The checks of one area. findings: the checks that failed or warn, the worst first.
    other_lines: the other checks."""

    title: str
    findings: list[Line] = field(default_factory=list)
    other_lines: list[Line] = field(default_factory=list)

    def add(self, line: Line) -> None:
        if line.is_problem:
            self.findings.append(line)
        else:
            self.other_lines.append(line)

    @property
    def has_failure(self) -> bool:
        return any(line.status == "failed" for line in self.findings)

    @property
    def position(self) -> int:
        """The position of the area's worst status in ``_ORDER``, by which areas are sorted."""
        lines = self.findings or self.other_lines
        positions = [_ORDER.index(line.status) for line in lines if line.status in _ORDER]
        return min(positions, default=len(_ORDER))


@dataclass(frozen=True)
class Findings:
    """The results of one run. next: the next step, for people. counts: status in words → number of
    checks. previous_run_at: None if there was no earlier run."""

    at: datetime
    started_by: str
    next: str
    counts: dict[str, int]
    areas: list[Area]
    previous_run_at: datetime | None


def last_findings() -> Findings | None:
    """The newest run, compared with the run before it; None before the first run."""
    newest_runs = list(DoctorRun.objects.select_related("by").order_by("-id")[:2])
    if not newest_runs:
        return None
    run = newest_runs[0]
    previous_run = newest_runs[1] if len(newest_runs) == 2 else None
    previous_statuses = {}
    if previous_run:
        for check in previous_run.report["checks"]:
            previous_statuses[check["id"]] = check["status"]
    counts = {}
    for status in _ORDER:
        number = run.report.get("counts", {}).get(status)
        if number:
            counts[_STATUS_LABELS[status]] = number
    return Findings(
        at=run.at,
        started_by=str(run.by or ""),
        next=str(run.report.get("next", "")),
        counts=counts,
        areas=_areas(run.report["checks"], previous_statuses),
        previous_run_at=previous_run.at if previous_run else None,
    )


def _areas(checks: Sequence[dict[str, Any]], previous_statuses: dict[str, str]) -> list[Area]:
    """The checks by area, the area with the worst status first. previous_statuses: id of a check →
    its status in the run before."""
    areas: dict[str, Area] = {}
    for check in checks:
        prefix = str(check["id"]).partition("-")[0]
        area = areas.setdefault(prefix, Area(AREAS.get(prefix, prefix)))
        area.add(_line(check, previous_statuses.get(check["id"], "")))
    for area in areas.values():
        area.findings.sort(key=lambda finding: _ORDER.index(finding.status))
    return sorted(areas.values(), key=lambda area: area.position)


def _line(check: dict[str, Any], previous_status: str) -> Line:
    """check: from the report of a run. previous_status: '' if the check did not run before."""
    changed_from = ""
    if previous_status != check["status"]:
        changed_from = _STATUS_LABELS.get(previous_status, previous_status)
    return Line(
        id=str(check["id"]),
        title=str(check.get("title", "")),
        # A stored run of an earlier release has no headline.
        headline=str(check.get("headline") or check["title"]),
        status=str(check.get("status", "")),
        seen=str(check.get("seen", "")),
        cause=str(check.get("cause", "")),
        fix=str(check.get("fix", "")),
        fix_is_command=bool(check.get("fix_is_command")),
        previous_status=changed_from,
    )


def run_now(by: Any) -> DoctorRun:
    """Runs the checks that change nothing, in this process; takes some seconds. Stores and returns
    the run, and deletes all but the newest ``MAX_RUNS`` runs. by: the user who asked for it.

    Raises NoDoctor if the checks are not installed, AlreadyRunning if another process runs them.
    """
    try:
        run_checks = import_string(_DOCTOR)
    except ImportError as error:
        raise NoDoctor(f"The checks need the extra 'shell': {error}") from error
    if not cache.add(_LOCK, True, timeout=_LOCK_SECONDS):
        raise AlreadyRunning
    try:
        run = DoctorRun.objects.create(by=by, report=examine(run_checks))
    finally:
        cache.delete(_LOCK)
    newest_ids = list(DoctorRun.objects.order_by("-id").values_list("pk", flat=True)[:MAX_RUNS])
    DoctorRun.objects.exclude(pk__in=newest_ids).delete()
    return run
