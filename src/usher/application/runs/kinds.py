"""How the engine reconciles single runs and their modes. ``runs.sync`` copies all runs
together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef

from usher.application.enrollments.models import Enrollment
from usher.application.lms.context import LmsContext
from usher.application.lms.evidence import sample_of
from usher.application.lms.kind import LmsKind
from usher.application.runs import sync
from usher.application.runs.models import CourseMode, CourseRun, RunModes, problem_of_key
from usher.client.errors import BadAnswer, LmsError, NotThere, Refused
from usher.client.payloads import ObservedMode, read_run
from usher.contract.failures import MALFORMED
from usher.engine.kinds import Job, Outcome
from usher.engine.models import lock
from usher.engine.summary import Failure

#: Slug and currency: the platform allows one mode in several currencies.
_ModeKey = tuple[str, str]
#: Modes whose expiry is the run's upgrade deadline.
_PAID_SLUGS = ("verified", "no-id-professional", "professional", "credit")


class RunKind(LmsKind):
    """Copies course runs from the LMS, and marks those that it does not show as missing."""

    name = "run"
    model = CourseRun
    observed_fields = (*sync.SYNCED_FIELDS, "digest", "missing_since")
    always_in_batches = True
    #: As many keys as fit into a URL.
    batch_size = 50
    user_field = ""
    run_field = "pk"

    def display_name(self, row: CourseRun, name: str = "") -> str:
        return row.course_key

    def prepare(
        self, rows: Sequence[CourseRun], context: LmsContext
    ) -> list[tuple[Job, Outcome | None]]:
        context.evidence.offer("run", _known_runs)
        return [(Job(row, self.display_name(row)), malformed_key_outcome(row)) for row in rows]

    def act_many(self, jobs: Sequence[Job], context: LmsContext) -> list[Outcome]:
        runs = sync.runs_by_key(context.lms, [job.row.course_key for job in jobs])
        if len(runs) < len(jobs):
            sync.require_known_runs(context.lms, context.evidence)
        return [_run_outcome(job, runs.get(job.row.course_key)) for job in jobs]

    def settle(self, results: Sequence[tuple[Job, Outcome]], now: datetime) -> None:
        """Marks missing runs, and makes due the refused enrollments of changed runs."""
        missing_ids = [
            job.row.pk for job, outcome in results if isinstance(outcome.error, NotThere)
        ]
        rows = CourseRun.objects.filter(pk__in=missing_ids, missing_since__isnull=True)
        rows.update(missing_since=now)
        changed_ids = [
            job.row.pk for job, outcome in results if outcome.error is None and outcome.changed
        ]
        _retry_refused(changed_ids, now)


def malformed_key_outcome(run: CourseRun) -> Outcome | None:
    """The outcome for a run whose key is malformed, for which the LMS would refuse a whole request;
    None for a valid key."""
    problem = problem_of_key(run.course_key)
    return Outcome(error=Refused(problem, code=MALFORMED)) if problem else None


def _known_runs() -> tuple[int, list[str]]:
    """The estimated number of runs that the LMS is known to have, and a sample of their keys."""
    observed_runs = CourseRun.objects.filter(missing_since__isnull=True, observed_at__isnull=False)
    return sample_of(observed_runs, "course_key")


def _runs_with_modes() -> tuple[int, list[str]]:
    """The estimated number of runs that are not missing and have known modes, and a sample of their
    keys."""
    present_runs = CourseRun.objects.filter(missing_since__isnull=True)
    return sample_of(
        present_runs.filter(Exists(CourseMode.objects.filter(run=OuterRef("pk")))), "course_key"
    )


def _run_outcome(job: Job, raw: dict[str, Any] | None) -> Outcome:
    """The outcome of a run's job. raw: the LMS's object; None if the LMS does not show the run."""
    from usher.application.runs.services import MISSING_TEXT

    if raw is None:
        return Outcome(error=NotThere(MISSING_TEXT))
    digest = sync.digest(raw)
    if digest == job.row.digest and not job.row.missing_since:
        return Outcome()  # the row has the LMS's values
    try:
        observed = read_run(raw)
    except LmsError as error:
        return Outcome(error=error)
    values = {name: getattr(observed, name) for name in sync.SYNCED_FIELDS}
    return Outcome(values | {"digest": digest, "missing_since": None}, changed=True)


class ModeKind(LmsKind):
    """Copies the modes of course runs from the LMS; one row stands for all modes of a run."""

    name = "mode"
    model = RunModes
    user_field = ""
    run_field = "run_id"
    related = ("run",)

    def prepare(
        self, rows: Sequence[RunModes], context: LmsContext
    ) -> list[tuple[Job, Outcome | None]]:
        known_modes = CourseMode.objects.filter(run_id__in=[row.run_id for row in rows])
        slugs: dict[int, set[str]] = {}
        for run_id, slug in known_modes.values_list("run_id", "slug"):
            slugs.setdefault(run_id, set()).add(slug)
        if slugs:
            context.evidence.offer("mode", _runs_with_modes)
        prepared: list[tuple[Job, Outcome | None]] = []
        for row in rows:
            known_slugs = slugs.get(row.run_id, set())
            job = Job(row, self.display_name(row), data=known_slugs)
            prepared.append((job, malformed_key_outcome(row.run)))
        return prepared

    def act(self, job: Job, context: LmsContext) -> Outcome:
        key = job.row.run.course_key
        modes = context.lms.run_modes(key)
        known_slugs: set[str] = job.data
        if known_slugs and not modes:
            # Every run in the LMS has a mode, so an empty list needs a check.
            context.evidence.require_any("mode", lambda key: bool(context.lms.run_modes(key)))
        missing_slugs = known_slugs - {mode.slug for mode in modes}
        if missing_slugs:
            # Missing modes are deleted here, so the LMS must give the same answer twice.
            second_answer = context.lms.run_modes(key)
            if set(second_answer) != set(modes):
                raise BadAnswer(
                    f"The LMS answered twice about the modes of {key}, and not the same."
                )
        return Outcome(extra=modes)  # ``settle`` finds out whether they changed

    def settle_earlier_kinds(self, results: Sequence[tuple[Job, Outcome]]) -> None:
        """Locks the runs, which ``settle`` changes."""
        lock(CourseRun.objects.filter(pk__in=[job.row.run_id for job, _ in results]))

    def settle(self, results: Sequence[tuple[Job, Outcome]], now: datetime) -> None:
        """Saves the runs' modes. Where they changed, corrects the default mode of enrollments and
        makes due the refused enrollments."""
        from usher.application.enrollments.modes import replace_default_mode

        successes = {
            job.row.run_id: (job.row.run, outcome)
            for job, outcome in results
            if outcome.error is None
        }
        modes: dict[int, dict[_ModeKey, CourseMode]] = {run_id: {} for run_id in successes}
        for mode in CourseMode.objects.filter(run_id__in=successes):
            modes[mode.run_id][mode.slug, mode.currency] = mode
        changed_ids = []
        for run_id, (run, outcome) in successes.items():
            outcome.changed = _write_modes(run, outcome.extra, modes[run_id])
            if outcome.changed:
                replace_default_mode(run)
                changed_ids.append(run_id)
        _retry_refused(changed_ids, now)

    def before_recheck(self, user: Any = None, related_to: Any = None) -> Failure | None:
        """Creates the missing rows of runs that have none."""
        runs = CourseRun.objects.filter(modes_state__isnull=True).values_list("pk", flat=True)
        RunModes.objects.bulk_create(
            [RunModes(run_id=pk) for pk in runs.iterator()],
            batch_size=500,
            ignore_conflicts=True,
        )
        return None


def _write_modes(
    run: CourseRun, observed: list[ObservedMode], recorded: dict[_ModeKey, CourseMode]
) -> bool:
    """Saves the modes that the LMS shows, deletes the rest, and updates the run's upgrade deadline.
    Returns whether anything changed. recorded: the run's modes in the database; the function
    removes the modes that it keeps."""
    changed = False
    # If the LMS shows a slug and a currency several times, the last counts.
    observed_by_key = {(mode.slug, mode.currency): mode for mode in observed}
    for mode in observed_by_key.values():
        row = recorded.pop((mode.slug, mode.currency), None)
        if row is None:
            CourseMode.objects.create(run=run, **vars(mode))
            changed = True
        elif row.as_values() != vars(mode):
            CourseMode.objects.filter(pk=row.pk).update(**vars(mode))
            changed = True
    if recorded:
        CourseMode.objects.filter(pk__in=[mode.pk for mode in recorded.values()]).delete()
        changed = True
    paid_modes = [mode for mode in observed if mode.slug in _PAID_SLUGS]
    deadlines = [mode.expires_at for mode in paid_modes if mode.expires_at]
    deadline = deadlines[0] if deadlines else None
    if run.upgrade_deadline != deadline:
        CourseRun.objects.filter(pk=run.pk).update(upgrade_deadline=deadline)
        changed = True
    return changed


def _retry_refused(run_ids: list[int], now: datetime) -> None:
    """Makes due the refused enrollments of runs that changed: a change, such as a new enrollment
    period, may have removed the cause."""
    if run_ids:
        Enrollment.objects.refused().filter(run_id__in=run_ids).make_due(now)
