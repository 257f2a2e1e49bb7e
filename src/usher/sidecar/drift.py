"""Compares the application with the LMS and changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from usher.client import batch
from usher.client.errors import NotThere
from usher.client.payloads import AccountSeen, ListedEnrollment, moment
from usher.sidecar import records, runs
from usher.sidecar.adapters.adapter import Adapter
from usher.sidecar.comparing import both_sides, is_other_mode
from usher.sidecar.learners import Learner, learners
from usher.sidecar.opening import Opened
from usher.sidecar.overlapping import overlapped
from usher.sidecar.records import CERTIFICATE, GRADE
from usher.sidecar.run_modes import RUN_MODE, offered

KINDS = ("account", "enrollment", "run", RUN_MODE, GRADE, CERTIFICATE)
#: The kinds compared by default. Grades need a request for each run, and certificates one for each
#: learner.
USUAL = ("account", "enrollment", "run", RUN_MODE)
#: Concurrent requests to the LMS.
_AT_ONCE = 8


@dataclass(frozen=True)
class Difference:
    """what: the learner or the run, or both. difference: a description. waiting: whether ``usher
    reconcile``, or the application itself, will remove it."""

    kind: str
    what: str
    difference: str
    waiting: bool = False


def drift(sides: Opened, kinds: Collection[str] = USUAL) -> Iterator[Difference]:
    """Yields differences as they are found. Raises LmsError, SidecarError."""
    if "account" in kinds or "enrollment" in kinds:
        yield from _learners(sides, kinds)
    if "run" in kinds:
        yield from _runs(sides)
    if RUN_MODE in kinds:
        yield from _run_modes(sides)
    for kind, found in ((GRADE, records.grades), (CERTIFICATE, records.certificates)):
        if kind in kinds:
            yield from (Difference(kind, *each) for each in found(sides))


def _learners(sides: Opened, kinds: Collection[str]) -> Iterator[Difference]:
    """Compares learners. Reads pages one after another, and sends requests about several pages at a
    time."""
    pages = learners(sides.agent, sides.adapter)
    with overlapped(lambda page: differences_of(sides, page, kinds), pages, _AT_ONCE) as results:
        for found in results:
            yield from found


def differences_of(sides: Opened, page: list[Learner], kinds: Collection[str]) -> list[Difference]:
    """Returns the differences of these learners. Raises LmsError."""
    names = [learner.username for learner in page if learner.username]
    seen = sides.lms.accounts(names) if names else {}
    found: list[Difference] = []
    if "account" in kinds:
        for learner in page:
            found += _account(learner, seen.get(learner.username))
    if "enrollment" in kinds:
        there: dict[str, list[ListedEnrollment]] = {}
        known = [name for name in names if name in seen]
        for enrollment in sides.lms.enrollments_of(known) if known else ():
            there.setdefault(enrollment.username, []).append(enrollment)
        for learner in page:
            found += _enrollments(sides.adapter, learner, there.get(learner.username, []))
    return found


def _account(learner: Learner, seen: AccountSeen | None) -> Iterator[Difference]:
    def differs(words: str, *, waiting: bool = False) -> Difference:
        return Difference("account", learner.email, words, waiting and not learner.given_up)

    if seen is None:
        if learner.made:
            yield differs(f"{learner.username} does not exist in the LMS; recorded as made here")
        else:
            yield differs("no account in the LMS yet", waiting=True)
        return
    if not learner.made:
        yield differs(f"{learner.username} exists in the LMS; not recorded here", waiting=True)
    if seen.email and seen.email.lower() != learner.email.lower():
        yield differs(f"the LMS has another e-mail for {learner.username}: {seen.email}")
    if learner.name and seen.name and seen.name != learner.name:
        yield differs(f"the name is {learner.name!r} here, {seen.name!r} in the LMS")
    if not seen.is_active:
        yield differs(f"{learner.username} is inactive in the LMS")
    if not learner.token:
        yield differs("no token of the LMS", waiting=True)


def _enrollments(
    adapter: Adapter, learner: Learner, there: list[ListedEnrollment]
) -> Iterator[Difference]:
    for both in both_sides(learner, there):
        row, found = both.row, both.found
        what = f"{learner.email} in {both.course}"
        if row is None:
            if found is not None and found.is_active:
                why = "no record here"
                if both.ended:
                    why = f"{both.ended.change_status or 'inactive'} here"
                yield Difference("enrollment", what, f"enrolled in the LMS; {why}")
            continue
        if found is None or not found.is_active:
            there_now = "not enrolled" if found is None else "unenrolled"
            if row.enrolled:
                yield Difference("enrollment", what, f"{there_now} in the LMS; recorded here")
            else:
                yield Difference("enrollment", what, "not enrolled in the LMS yet", waiting=True)
            continue
        if not row.enrolled:
            words = "enrolled in the LMS; not recorded here"
            yield Difference("enrollment", what, words, waiting=True)
        if is_other_mode(adapter, both):
            words = f"mode {row.mode} here, {found.mode} in the LMS"
            yield Difference("enrollment", what, words)


def _run_modes(sides: Opened) -> Iterator[Difference]:
    batched = batch.COURSE_RUNS in (batch.capabilities(sides.lms) or ())
    for page in offered(sides, batched=batched):
        for found in page:
            course = found.row["course"]
            if found.error is not None and not isinstance(found.error, NotThere):
                yield Difference(RUN_MODE, course, found.error.message)
            for mode in found.lacks:
                words = f"offered as {mode.slug} in the LMS, not here"
                yield Difference(RUN_MODE, course, words, waiting=True)
            if found.deadline:
                here = runs.shown(moment(found.row["deadline"]))
                there = runs.shown(found.deadline)
                words = f"upgrade deadline {here} here, {there} in the LMS"
                yield Difference(RUN_MODE, course, words, waiting=True)


def _runs(sides: Opened) -> Iterator[Difference]:
    for page in runs.compared(sides):
        for found in page:
            if found.error is not None:
                yield Difference("run", found.row["course"], found.error.message)
            elif found.seen is None:
                yield Difference("run", found.row["course"], "the LMS does not list it")
            for name, there in found.changes.items():
                here = runs.here(found.row, name)
                words = f"{name} {runs.shown(here)} here, {runs.shown(there)} in the LMS"
                yield Difference("run", found.row["course"], words, waiting=True)
