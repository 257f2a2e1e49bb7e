"""Creates and updates a batch of enrollments."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from social_django.models import UserSocialAuth

from usher.contract.events import EventType
from usher.lms import conf
from usher.lms.api.repetitions import StoredOutcomes
from usher.lms.api.transactions import UncleanRefusal, WriteCounter, process_in_transactions
from usher.lms.connections.models import ConnectedApplication
from usher.lms.enrollments import NewEnrollment, State, compute_once
from usher.lms.errors import EnrollmentError, EnrollmentRefused
from usher.lms.events import outbox

log = logging.getLogger(__name__)
Item = dict[str, Any]


def process_enrollments(
    request: Any, items: list[Item], application: ConnectedApplication, request_id: str = ""
) -> list[Item]:
    """Set mode and ``is_active`` of each item's enrollment; return the outcome of each, in order.

    items: validated by ``api.forms.EnrollmentItem``. An outcome's ``status`` is ``changed``,
    ``unchanged``, ``refused`` or, if the item may succeed later, ``failed``. Users who aren't
    learners of the application are refused as unknown. An item with a ``uid`` is also refused if
    its account is not linked to this learner. Three queries for each transaction find the
    enrollments that already have the requested state; the rest are changed as the platform's own
    API changes them. request_id: with '', no outcomes are stored for a repetition. Raises
    RequestIdReused when an earlier request used the request id for other items.
    """
    stored_outcomes = StoredOutcomes(application, "enrollments", request_id, items)
    cache: dict[Any, Any] = {}

    def process(start: int, batch_items: list[Item]) -> list[Item]:
        def process_batch() -> list[Item]:
            return _process_batch(request, batch_items, application, cache)

        return stored_outcomes.process_once(start, batch_items, process_batch)

    return process_in_transactions(
        items, process, _failed_outcome, lambda item: (item["course_id"], item["username"])
    )


def _process_batch(
    request: Any, items: list[Item], application: ConnectedApplication, cache: dict[Any, Any]
) -> list[Item]:
    """The outcomes of the items of one transaction. The application is not notified of the changes,
    because it requested them. cache: runs and modes, shared by all transactions of the request."""
    pairs = frozenset((item["username"], item["course_id"]) for item in items)
    with outbox.collecting_changes(outbox.OwnChanges(application, EventType.ENROLLMENT, pairs)):
        batch = _Batch(request, items, application, cache)
        with batch.writes.counting():
            # One item alone may be here because inserting a whole batch failed.
            outcomes_of_new_enrollments = batch.enroll_new_learners(items) if len(items) > 1 else {}
            return [
                outcomes_of_new_enrollments.get(number) or batch.process_one(item)
                for number, item in enumerate(items)
            ]


def _failed_outcome(item: Item) -> Item:
    """The outcome of an item that raised an unexpected exception: a refusal."""
    message = "The LMS could not save this enrollment; see the LMS's log for the error."
    return _refused_outcome(item, EnrollmentRefused(EnrollmentError.INVALID, message))


class _Batch:
    """The items of one transaction, with their rows from the database, read before the first
    change."""

    def __init__(
        self,
        request: Any,
        items: list[Item],
        application: ConnectedApplication,
        cache: dict[Any, Any],
    ) -> None:
        self.request, self.cache = request, cache
        #: Shows whether an item was refused before or after the first write for it.
        self.writes = WriteCounter()
        names = {item["username"] for item in items}
        links = UserSocialAuth.objects.filter(
            provider=application.backend, user__username__in=names
        ).select_related("user__profile")
        #: Username → user, for learners of the application. Exact matches only: a case-insensitive
        #: database finds more.
        self.users: dict[str, Any] = {}
        #: Username → uids of the learners who sign in to this account.
        self.uids: dict[str, set[str]] = defaultdict(set)
        for link in links:
            if link.user.username in names:
                self.users[link.user.username] = link.user
                self.uids[link.user.username].add(link.uid)
        #: Course id → course key, or None for a malformed course id.
        self.keys = {item["course_id"]: _parse_course_key(item["course_id"]) for item in items}
        keys = {key for key in self.keys.values() if key is not None}
        #: Keys of runs that exist, found by this transaction or an earlier one of the request.
        self.runs: set[Any] = compute_once(cache, "runs", set)
        if unknown := keys - self.runs:
            runs = conf.platform().course_overview_model().objects.filter(id__in=unknown)
            self.runs.update(runs.values_list("id", flat=True))
        rows = (
            conf.platform()
            .enrollment_model()
            .objects.filter(user__in=self.users.values(), course_id__in=keys)
        )
        #: (user id, course key) → state, for the enrollments that exist.
        self.states: dict[tuple[int, Any], State] = {
            (user_id, course_id): (mode, is_active)
            for user_id, course_id, mode, is_active in rows.values_list(
                "user_id", "course_id", "mode", "is_active"
            )
        }

    def enroll_new_learners(self, items: list[Item]) -> dict[int, Item]:
        """Enroll learners who have no row in the run, in one batch. Returns {index of the item: its
        outcome}, without the items that ``process_one`` has to handle."""
        new_enrollments: dict[int, NewEnrollment] = {}
        pairs: set[tuple[int, Any]] = set()  # (user id, course key) of the items before
        for number, item in enumerate(items):
            user, key = self.users.get(item["username"]), self.keys[item["course_id"]]
            if user is None or key not in self.runs or not self._is_learners_account(item):
                continue
            pair = (user.pk, key)
            # ``process_one`` handles a second item for the same enrollment, after the first.
            if item["is_active"] and pair not in self.states and pair not in pairs:
                new_enrollments[number] = NewEnrollment(
                    user, key, mode=item["mode"] or None, force=item["force"]
                )
            pairs.add(pair)
        try:
            states = conf.platform().add_enrollments(
                self.request, [*new_enrollments.values()], self.cache
            )
        except EnrollmentRefused as refusal:
            # Refusals of single enrollments are in ``states``. This one came while the rows were
            # inserted, so some may be written already.
            raise UncleanRefusal(str(refusal)) from refusal
        outcomes = {}
        for (number, new), state in zip(new_enrollments.items(), states, strict=True):
            if isinstance(state, EnrollmentRefused):
                outcomes[number] = _refused_outcome(items[number], state)
            elif state is not None:
                self.states[new.user.pk, new.key] = state
                outcomes[number] = _outcome(items[number], "changed", state)
        return outcomes

    def process_one(self, item: Item) -> Item:
        """Change one enrollment; return the outcome."""
        writes_before = self.writes.count
        try:
            user, key = self._find_user_and_run(item)
            state_before = self.states.get((user.pk, key))
            if state_before is not None:
                mode_before, _ = state_before
                if state_before == (item["mode"] or mode_before, item["is_active"]):
                    return _outcome(item, "unchanged", state_before)
            state_after = self._change(user, key, item)
        except EnrollmentRefused as refusal:
            if self.writes.count != writes_before:
                raise UncleanRefusal(str(refusal)) from refusal
            return _refused_outcome(item, refusal)
        self.states[user.pk, key] = state_after
        status = "unchanged" if state_before == state_after else "changed"
        return _outcome(item, status, state_after)

    def _find_user_and_run(self, item: Item) -> tuple[Any, Any]:
        """The item's user and course key. Raises EnrollmentRefused if one of them is unknown, or if
        the account is another learner's."""
        user, key = self.users.get(item["username"]), self.keys[item["course_id"]]
        if user is None:
            message = f"The user {item['username']} does not exist for this application."
            raise EnrollmentRefused(EnrollmentError.UNKNOWN_USER, message)
        if not self._is_learners_account(item):
            message = (
                f"The learner {item['uid']} does not sign in to the LMS account "
                f"{item['username']}: an account was renamed, or a link was changed. The "
                "enrollment was not changed."
            )
            raise EnrollmentRefused(EnrollmentError.LINKED_ELSEWHERE, message)
        if key is None or key not in self.runs:
            message = f"No course '{item['course_id']}' found for enrollment"
            raise EnrollmentRefused(EnrollmentError.UNKNOWN_RUN, message)
        return user, key

    def _is_learners_account(self, item: Item) -> bool:
        """Whether the learner ``uid`` signs in to the account ``username``. True if the item has
        no uid."""
        uid = item.get("uid")
        return not uid or uid in self.uids[item["username"]]

    def _change(self, user: Any, key: Any, item: Item) -> State:
        """Set the enrollment as the item asks; return its state afterwards. Raises
        EnrollmentRefused, also when a row that the platform needs is missing."""
        try:
            return conf.platform().set_enrollment(
                self.request,
                user,
                key,
                # None if the request names no mode. Then no mode is validated, so that a learner
                # can leave a run whose mode was removed.
                mode=item["mode"] or None,
                is_active=item["is_active"],
                force=item["force"],
                current_state=self.states.get((user.pk, key)),
                cache=self.cache,
            )
        except ObjectDoesNotExist as error:
            log.exception("The enrollment of %s in %s can't be changed.", user.username, key)
            message = "The LMS could not save this enrollment; see the LMS's log for the error."
            raise EnrollmentRefused(EnrollmentError.INVALID, message) from error


def _parse_course_key(text: str) -> Any:
    """The course key; None for malformed text."""
    try:
        return conf.platform().course_key(text)
    except ValueError:
        return None


def _outcome(item: Item, status: str, state: State) -> Item:
    mode, is_active = state
    return {"id": item["id"], "status": status, "mode": mode, "is_active": is_active, "error": None}


def _refused_outcome(item: Item, refusal: EnrollmentRefused) -> Item:
    error = {"code": refusal.code.value, "message": str(refusal)}
    return {"id": item["id"], "status": "refused", "mode": None, "is_active": None, "error": error}
