"""Runs checks concurrently, each after those that it depends on."""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from usher.contract import exits
from usher.doctor import fixes
from usher.doctor.check import (
    SILENT_LMS,
    Check,
    Finding,
    Status,
    all_checks,
    failed,
    not_applicable,
    skipped,
    title_of_family,
)
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotApplicableError, NotKnownError

#: More than the machine has processors: checks wait for servers and other programs.
_THREADS = 24


class UnknownCheckError(ValueError):
    """No check has this id."""


@dataclass(frozen=True)
class Line:
    """The finding of one check. title: what the check expects. because: the failed check because of
    which this one was skipped, or ''. page: where the check is documented, or ''. essential: see
    ``Check``. needs: ids of the checks on which it depends, also indirectly. family: the subject of
    the check's family (``title_of_family``), or ''."""

    id: str
    title: str
    finding: Finding
    because: str = ""
    page: str = ""
    essential: bool = False
    needs: frozenset[str] = frozenset()
    family: str = ""

    @property
    def headline(self) -> str:
        """The finding, if something is wrong or worth noting; otherwise the title."""
        finding = self.finding
        return finding.seen if finding.is_trouble or finding.status is Status.NOTE else self.title

    def to_dict(self) -> dict[str, Any]:
        finding = self.finding
        return {
            "id": self.id,
            "title": self.title,
            "headline": self.headline,
            "status": finding.status.value,
            "seen": finding.seen,
            "cause": finding.cause,
            "fix": finding.fix,
            "because": self.because,
            "page": self.page,
            "essential": self.essential,
            "applies": finding.applies,
        }


@dataclass
class Report:
    """lines: causes before symptoms. stage: how far the setup is. named_ids: the checks that the
    operator named; empty for all checks."""

    lines: list[Line] = field(default_factory=list)
    named_ids: frozenset[str] = frozenset()
    stage: str = ""
    seconds: float = 0.0

    def lines_with_status(self, status: Status) -> list[Line]:
        return [line for line in self.lines if line.finding.status is status]

    @property
    def root_causes(self) -> list[Line]:
        """Failures that are not consequences of other failures, then warnings. A check on which
        another depends comes before the other, since it may be the cause."""
        problems = [*self.lines_with_status(Status.FAILED), *self.lines_with_status(Status.WARNING)]
        ordered: list[Line] = []
        while problems:
            next_line = _cause_of_first(problems)
            problems.remove(next_line)
            ordered.append(next_line)
        return ordered

    @property
    def silent_servers(self) -> list[str]:
        """The servers that do not answer: the application, the LMS, or both."""
        return [line.finding.silent_server for line in self.lines if line.finding.silent_server]

    @property
    def healthy(self) -> bool:
        return not self.lines_with_status(Status.FAILED)

    @property
    def unknown(self) -> list[Line]:
        """Checks that could not be made. Leaves out checks that were skipped because a check on
        which they depend failed."""
        skipped = self.lines_with_status(Status.SKIPPED)
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
            return exits.FAILED
        if self.named_ids:
            unknown = any(line.id in self.named_ids for line in self.unknown)
            return exits.NOT_RUN if unknown else exits.DONE
        return exits.UNFINISHED if self.unproven else exits.DONE

    def to_dict(self) -> dict[str, Any]:
        return {
            "healthy": self.healthy,
            "proven": self.healthy and not self.unproven,
            "not_checked": [line.id for line in self.unknown],
            "exit_code": self.exit_code,
            "stage": self.stage,
            "seconds": round(self.seconds, 2),
            "counts": {status.value: len(self.lines_with_status(status)) for status in Status},
            "checks": [line.to_dict() for line in self.lines],
        }


def _cause_of_first(problems: list[Line]) -> Line:
    """The first of these problems on which the first one in the list depends, and which itself
    depends on none of them; without such a problem, the first one in the list."""
    ids = {line.id for line in problems}
    for line in problems:
        may_be_cause = line.id in problems[0].needs
        has_cause = bool(line.needs & ids)
        if may_be_cause and not has_cause:
            return line
    return problems[0]


def run(context: Context, only: Iterable[str] = ()) -> Report:
    """Runs all checks; with ``only``, the checks with these ids and the checks on which they
    depend. A check that is run only as a dependency is reported if its failure prevented a check in
    ``only``.

    Raises UnknownCheckError for an id that no check has.
    """
    started = time.monotonic()
    checks = all_checks()
    selected = _select(checks, only)
    to_run = _with_dependencies(checks, selected)
    classes_in_order = {
        check_id: checks[check_id] for check_id in _in_order(checks) if check_id in to_run
    }
    lines = _skip_unconfirmed(_run_all(classes_in_order, context))
    reported_ids = selected | {lines[check_id].because for check_id in selected}
    report = Report([lines[check_id] for check_id in checks if check_id in reported_ids])
    report.named_ids = frozenset(selected) if set(selected) != set(checks) else frozenset()
    report.stage = context.stage
    report.seconds = time.monotonic() - started
    return report


def _run_all(checks: dict[str, type[Check]], context: Context) -> dict[str, Line]:
    """Runs these checks concurrently. Each must come after the checks on which it depends."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="check") as pool:
        for gather in context.slow_facts():
            # The result is dropped: it is stored, or its error is, for the checks that need it.
            pool.submit(gather)
        futures: dict[str, Future[Line]] = {}
        for check_id, check_class in checks.items():
            # The checks on which this one depends were submitted earlier, so waiting for them can't
            # block the pool.
            dependencies = [
                futures[needed] for needed in check_class.depends_on if needed in futures
            ]
            needs = frozenset(_with_dependencies(checks, {check_id}) - {check_id})
            futures[check_id] = pool.submit(_run_check, check_class, context, dependencies, needs)
        return {check_id: future.result() for check_id, future in futures.items()}


def _skip_unconfirmed(lines: dict[str, Line]) -> dict[str, Line]:
    """If the LMS does not answer, replaces successful checks of its settings and records by skipped
    checks: files and database have the right values, but nothing has shown that these work.
    Failures stay."""
    failed_id = next(
        (line.id for line in lines.values() if line.finding.silent_server == SILENT_LMS), ""
    )
    if not failed_id:
        return lines
    unconfirmed = skipped(
        f"the stored values are right, but can't be tried while {failed_id} fails"
    )
    new_lines = dict(lines)
    for check_id, line in lines.items():
        if check_id.startswith(_LMS_FAMILIES) and line.finding.status is Status.OK:
            new_lines[check_id] = replace(line, finding=unconfirmed, because=failed_id)
    return new_lines


#: The families of checks of the LMS's settings and records.
_LMS_FAMILIES = ("LMS-", "PRV-")


def _run_check(
    check_class: type[Check],
    context: Context,
    dependencies: list[Future[Line]],
    needs: frozenset[str],
) -> Line:
    """Makes the check as soon as its dependencies are checked; skips it if one of them failed.
    needs: as in ``Line``."""
    failed_ids = (_failed_check_of(future.result()) for future in dependencies)
    because = next(filter(None, failed_ids), "")
    if because:
        finding = skipped(f"not checked while {because} fails")
    else:
        finding = _probe(check_class, context)
    family = title_of_family(check_class.id.partition("-")[0])
    with_env_file_name = context.application.with_env_file_name
    return Line(
        id=check_class.id,
        title=with_env_file_name(check_class.title()),
        finding=finding,
        because=because,
        page=check_class.page(),
        essential=check_class.essential,
        needs=needs,
        family=with_env_file_name(family),
    )


def _failed_check_of(line: Line) -> str:
    """The id of the failed check because of which the checks that depend on this one are skipped;
    '' if they are made."""
    return line.id if line.finding.status is Status.FAILED else line.because


def _probe(check_class: type[Check], context: Context) -> Finding:
    """Makes the check. Returns its finding with the names and commands of this deployment."""
    try:
        finding = check_class().probe(context)
        fix = context.tutor.adapt_to_root(fixes.adapt(finding.fix, context))
        seen = context.application.with_env_file_name(finding.seen)
        cause = context.application.with_env_file_name(finding.cause)
        return replace(finding, seen=seen, cause=cause, fix=fix)
    except NotApplicableError as error:
        return not_applicable(str(error))
    except NotKnownError as error:
        return skipped(str(error))
    except Exception as error:  # noqa: BLE001 - a check with a bug must not hide the others
        return failed(
            f"the check itself failed: {type(error).__name__}: {error}",
            cause="an unexpected answer, or a bug in the check",
            fix=f"usher doctor --only {check_class.id} --json",
        )


def _select(checks: dict[str, type[Check]], only: Iterable[str]) -> set[str]:
    """The ids in ``only``, in capitals; all ids if it is empty. Raises UnknownCheckError."""
    ids = {check_id.upper() for check_id in only}
    if unknown := sorted(ids - set(checks)):
        raise UnknownCheckError(f"There is no check {unknown[0]}; `usher doctor --list` shows all.")
    return ids or set(checks)


def _with_dependencies(checks: dict[str, type[Check]], selected: set[str]) -> set[str]:
    """The selected ids, and those of all checks on which they depend, also indirectly."""
    ids: set[str] = set()
    to_visit = list(selected)
    while to_visit:
        check_id = to_visit.pop()
        if check_id not in ids and check_id in checks:
            ids.add(check_id)
            to_visit += checks[check_id].depends_on
    return ids


def _in_order(checks: dict[str, type[Check]]) -> Iterator[str]:
    """Yields all ids, each after the ids of the checks on which it depends. Raises ValueError if
    checks depend on each other in a cycle."""
    graph = {
        check_id: [needed for needed in check_class.depends_on if needed in checks]
        for check_id, check_class in checks.items()
    }
    try:
        yield from TopologicalSorter(graph).static_order()
    except CycleError as error:
        raise ValueError(f"checks depend on each other in a cycle: {error.args[1]}") from error
