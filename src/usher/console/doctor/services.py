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

#: Imported by name: an application can be installed without the doctor package.
_DOCTOR = "usher.doctor.staff.look"
#: Runs that are kept, and seconds after which a run that has not ended counts as killed.
KEPT = 20
_LOCK, _LOCKED = "usher-console-doctor", 120
#: Worst first.
_ORDER = ("failed", "warning", "skipped", "note", "ok")
_WORDS = {
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
    """The result of one check. before: its status in the run before; '' when that was the same or
    the check did not run."""

    id: str
    title: str
    status: str
    seen: str
    cause: str = ""
    fix: str = ""
    fix_is_command: bool = False
    page: str = ""
    before: str = ""

    @property
    def word(self) -> str:
        return _WORDS.get(self.status, self.status)

    @property
    def is_open(self) -> bool:
        return self.status in ("failed", "warning")


@dataclass(frozen=True)
class Area:
    title: str
    open: list[Line] = field(default_factory=list)
    rest: list[Line] = field(default_factory=list)

    @property
    def worst(self) -> int:
        lines = self.open or self.rest
        return min((_ORDER.index(one.status) for one in lines if one.status in _ORDER), default=9)


@dataclass(frozen=True)
class Findings:
    at: datetime
    by: str
    next: str
    counts: dict[str, int]
    areas: list[Area]
    before_at: datetime | None


def last() -> Findings | None:
    """The newest run, compared with the run before it; None before the first run."""
    runs = list(DoctorRun.objects.select_related("by").order_by("-id")[:2])
    if not runs:
        return None
    run, before = runs[0], runs[1] if len(runs) > 1 else None
    counts = run.report.get("counts", {})
    earlier = {c["id"]: c["status"] for c in before.report["checks"]} if before else {}
    return Findings(
        at=run.at,
        by=str(run.by or ""),
        next=str(run.report.get("next", "")),
        counts={_WORDS[name]: counts[name] for name in _ORDER if counts.get(name)},
        areas=_areas(run.report["checks"], earlier),
        before_at=before.at if before else None,
    )


def _areas(checks: Sequence[dict[str, Any]], earlier: dict[str, str]) -> list[Area]:
    found: dict[str, Area] = {}
    for check in checks:
        area = str(check["id"]).partition("-")[0]
        line = _line(check, earlier)
        of_area = found.setdefault(area, Area(AREAS.get(area, area)))
        (of_area.open if line.is_open else of_area.rest).append(line)
    for area_ in found.values():
        area_.open.sort(key=lambda one: _ORDER.index(one.status))
    return sorted(found.values(), key=lambda each: each.worst)


def _line(check: dict[str, Any], earlier: dict[str, str]) -> Line:
    was = earlier.get(check["id"], "")
    texts = {name: str(check.get(name, "")) for name in ("id", "title", "status", "seen")}
    more = {name: str(check.get(name, "")) for name in ("cause", "fix", "page")}
    is_command = bool(check.get("fix_is_command"))
    return Line(
        **texts,
        **more,
        fix_is_command=is_command,
        before=_WORDS.get(was, was) if was != check["status"] else "",
    )


def run_now(by: Any) -> DoctorRun:
    """Runs the checks that change nothing, in this process; takes some seconds.

    Raises NoDoctor, AlreadyRunning.
    """
    try:
        look = import_string(_DOCTOR)
    except ImportError as error:
        raise NoDoctor(f"The checks need the extra 'shell': {error}") from error
    if not cache.add(_LOCK, 1, _LOCKED):
        raise AlreadyRunning
    try:
        run = DoctorRun.objects.create(by=by, report=examine(look))
    finally:
        cache.delete(_LOCK)
    kept = list(DoctorRun.objects.order_by("-id").values_list("pk", flat=True)[:KEPT])
    DoctorRun.objects.exclude(pk__in=kept).delete()
    return run
