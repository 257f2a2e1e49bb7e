"""Compares the application with the LMS and changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from usher.client.client import LmsClient
from usher.client.errors import NotThere
from usher.client.payloads import AccountSeen, ListedEnrollment, RunSeen, moment, read_run
from usher.sidecar.learners import Learner, learners, runs
from usher.sidecar.opening import Opened

KINDS = ("account", "enrollment", "run")
#: Requests to the LMS at a time.
_AT_ONCE = 8
_DATES = ("start", "end", "enrollment_start", "enrollment_end")


@dataclass(frozen=True)
class Difference:
    """what: the learner or run, and the enrollment's run; difference: in words; waiting: the
    application itself would still do it."""

    kind: str
    what: str
    difference: str
    waiting: bool = False


def drift(sides: Opened, kinds: Collection[str] = KINDS) -> Iterator[Difference]:
    """As it is found. Raises LmsError, SidecarError."""
    if "account" in kinds or "enrollment" in kinds:
        yield from _learners(sides, kinds)
    if "run" in kinds:
        yield from _runs(sides)


def _learners(sides: Opened, kinds: Collection[str]) -> Iterator[Difference]:
    """Pages are read one after another; the LMS is asked about several at a time."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked: list[Future[list[Difference]]] = []
        for page in learners(sides.agent, sides.adapter):
            asked.append(pool.submit(_page, sides, page, kinds))
            if len(asked) >= 2 * _AT_ONCE:
                yield from asked.pop(0).result()
        for future in asked:
            yield from future.result()


def _page(sides: Opened, page: list[Learner], kinds: Collection[str]) -> list[Difference]:
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
            found += _enrollments(learner, there.get(learner.username, []))
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


def _enrollments(learner: Learner, there: list[ListedEnrollment]) -> Iterator[Difference]:
    """Several rows here may stand for one enrollment there: of several orders, one is enough."""
    seen = {enrollment.course_key: enrollment for enrollment in there}
    wanted = {row.course: row for row in learner.enrollments if row.wanted}
    ended = {row.course: row for row in learner.enrollments if row.course not in wanted}
    for course, row in wanted.items():
        found = seen.get(course)
        what = f"{learner.email} in {course}"
        if found is None or not found.is_active:
            if row.enrolled:
                yield Difference("enrollment", what, "not enrolled in the LMS; recorded here")
            else:
                yield Difference("enrollment", what, "not enrolled in the LMS yet", waiting=True)
            continue
        if not row.enrolled:
            words = "enrolled in the LMS; not recorded here"
            yield Difference("enrollment", what, words, waiting=True)
        if row.mode and found.mode != row.mode:
            words = f"mode {row.mode} here, {found.mode} in the LMS"
            yield Difference("enrollment", what, words)
    for course, found in seen.items():
        if not found.is_active or course in wanted:
            continue
        why = "no record here"
        if course in ended:
            why = f"{ended[course].change_status or 'inactive'} here"
        words = f"enrolled in the LMS; {why}"
        yield Difference("enrollment", f"{learner.email} in {course}", words)


def _runs(sides: Opened) -> Iterator[Difference]:
    seen = _runs_of(sides.lms)
    for run in runs(sides.agent, sides.adapter):
        found = seen.get(run["course"])
        if found is None:
            yield Difference("run", run["course"], "the LMS does not list it")
            continue
        if run["title"] != found.title:
            words = f"title {run['title']!r} here, {found.title!r} in the LMS"
            yield Difference("run", run["course"], words)
        for name in _DATES:
            here, there = _moment(run[name]), getattr(found, name)
            if here != there:
                words = f"{name} {_shown(here)} here, {_shown(there)} in the LMS"
                yield Difference("run", run["course"], words)


def _runs_of(lms: LmsClient) -> dict[str, RunSeen]:
    found: dict[str, RunSeen] = {}
    page = 1
    while True:
        try:
            listed = lms.runs_page(page)
        except NotThere:
            return found
        for raw in listed.results:
            run = read_run(raw)
            found[run.course_key] = run
        page += 1
        if page > listed.pages:
            return found


def _moment(value: Any) -> datetime | None:
    return moment(value)


def _shown(value: datetime | None) -> str:
    return value.isoformat(timespec="minutes") if value else "none"
