"""Runs checks concurrently, each after those that it depends on."""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from usher.doctor import fixes
from usher.doctor.check import Check, Finding, Status, all_checks, failed, not_applicable, skipped
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotApplicableError, NotKnownError

_WORKERS = 24


class UnknownCheckError(ValueError):
    """No check has this id."""


@dataclass(frozen=True)
class Line:
    """The finding of one check. because: the failed check because of which this one was skipped, or
    ''. page: where the check is documented, or ''. essential: see ``Check``."""

    id: str
    title: str
    finding: Finding
    because: str = ""
    page: str = ""
    essential: bool = False

    def to_dict(self) -> dict[str, Any]:
        found = self.finding
        return {
            "id": self.id,
            "title": self.title,
            "status": found.status.value,
            "seen": found.seen,
            "cause": found.cause,
            "fix": found.fix,
            "because": self.because,
            "page": self.page,
            "essential": self.essential,
            "applies": found.applies,
        }


@dataclass
class Report:
    """lines: causes before symptoms. stage: how far the setup is. asked: ids that the operator
    named; empty for all checks."""

    lines: list[Line] = field(default_factory=list)
    asked: frozenset[str] = frozenset()
    stage: str = ""
    seconds: float = 0.0

    def of_status(self, status: Status) -> list[Line]:
        return [line for line in self.lines if line.finding.status is status]

    @property
    def root_causes(self) -> list[Line]:
        """Failures that are not consequences of other failures."""
        return [line for line in self.lines if line.finding.is_trouble]

    @property
    def healthy(self) -> bool:
        return not self.of_status(Status.FAILED)

    @property
    def unknown(self) -> list[Line]:
        """Checks that could not be made for another reason than a failed check."""
        skipped = self.of_status(Status.SKIPPED)
        return [line for line in skipped if line.finding.applies and not line.because]

    @property
    def unproven(self) -> list[Line]:
        """Essential checks that could not be made, so that it is unknown whether the connection
        works."""
        return [line for line in self.unknown if line.essential]

    @property
    def exit_code(self) -> int:
        """1 if a check failed; 2 if a check that the operator named could not be made; 3 if an
        essential one could not; else 0."""
        if not self.healthy:
            return 1
        if self.asked:
            return 2 if any(line.id in self.asked for line in self.unknown) else 0
        return 3 if self.unproven else 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "healthy": self.healthy,
            "proven": self.healthy and not self.unproven,
            "not_checked": [line.id for line in self.unknown],
            "exit_code": self.exit_code,
            "stage": self.stage,
            "seconds": round(self.seconds, 2),
            "counts": {status.value: len(self.of_status(status)) for status in Status},
            "checks": [line.to_dict() for line in self.lines],
        }


def run(context: Context, only: Iterable[str] = ()) -> Report:
    """Runs all checks, or those in ``only``. Of the checks that these depend on, only failed ones
    are reported, because of which a named check could not be made.

    Raises UnknownCheckError for an id that no check has.
    """
    started = time.monotonic()
    checks = all_checks()
    wanted = _wanted(checks, only)
    order = [name for name in _in_order(checks) if name in _with_dependencies(checks, wanted)]
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="check") as pool:
        for gather in context.slow_facts():
            pool.submit(gather)
        futures: dict[str, Future[Line]] = {}
        for name in order:
            # The checks that it depends on were submitted earlier, so waiting for them can't block
            # the pool.
            waits_for = [futures[needed] for needed in checks[name].depends_on if needed in futures]
            futures[name] = pool.submit(_line, checks[name], context, waits_for)
        lines = {name: future.result() for name, future in futures.items()}
    shown = wanted | {lines[name].because for name in wanted}
    report = Report([lines[name] for name in checks if name in shown])
    report.asked = frozenset(wanted) if set(wanted) != set(checks) else frozenset()
    report.stage = context.stage
    report.seconds = time.monotonic() - started
    return report


def _line(kind: type[Check], context: Context, waits_for: list[Future[Line]]) -> Line:
    for earlier in (future.result() for future in waits_for):
        if because := _stopped_by(earlier):
            waits = skipped(f"not checked while {because} fails")
            return Line(kind.id, kind.title(), waits, because, kind.page(), kind.essential)
    found = _probe(kind, context)
    return Line(kind.id, kind.title(), found, page=kind.page(), essential=kind.essential)


def _stopped_by(earlier: Line) -> str:
    if earlier.finding.status is Status.FAILED:
        return earlier.id
    return earlier.because


def _probe(kind: type[Check], context: Context) -> Finding:
    try:
        found = kind().probe(context)
        fix = context.tutor.for_this_root(fixes.fitted(found.fix, context))
        return replace(found, fix=fix)
    except NotApplicableError as error:
        return not_applicable(str(error))
    except NotKnownError as error:
        return skipped(str(error))
    except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
        return failed(
            f"the check itself broke: {type(error).__name__}: {error}",
            cause="an answer that this check does not know, or a mistake in it",
            fix=f"usher doctor --only {kind.id} --json",
        )


def _wanted(checks: dict[str, type[Check]], only: Iterable[str]) -> set[str]:
    names = {name.upper() for name in only}
    if unknown := sorted(names - set(checks)):
        raise UnknownCheckError(f"There is no check {unknown[0]}; usher doctor --list shows all.")
    return names or set(checks)


def _with_dependencies(checks: dict[str, type[Check]], wanted: set[str]) -> set[str]:
    found: set[str] = set()
    rest = list(wanted)
    while rest:
        name = rest.pop()
        if name not in found and name in checks:
            found.add(name)
            rest += checks[name].depends_on
    return found


def _in_order(checks: dict[str, type[Check]]) -> Iterator[str]:
    graph = {
        name: [needed for needed in kind.depends_on if needed in checks]
        for name, kind in checks.items()
    }
    try:
        yield from TopologicalSorter(graph).static_order()
    except CycleError as error:
        raise ValueError(f"checks depend on each other in a cycle: {error.args[1]}") from error
