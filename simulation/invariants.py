"""Invariants: conditions that must hold after every step, and conditions for the end of a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from simulation.application import LEASE_SECONDS
from simulation.event_log import EventLog, short
from simulation.lms import LmsData
from simulation.network import Message, Network
from simulation.records import Records, Row, seconds
from simulation.scheduler import Process, Scheduler

#: The most attempts of one row during failures, and the most requests of one seed.
MAX_ATTEMPTS, MAX_REQUESTS = 30, 3000
#: Codes of refusals that the application decides itself; the LMS sends none of them.
_OWN_REFUSALS = {
    "retirement-by-hand",
    "deactivation-by-hand",
    "email-needs-usher-lms",
    "mode-kept",
}
#: Codes of rows that can't be settled before the learner's account is settled.
_WAITS_FOR_ACCOUNT = {"no-account", "account-refused", "inactive", "no-token"}
#: Columns whose new values are logged, for the kinds that have them.
_LOGGED_COLUMNS = ("mode", "is_active", "created_in_lms_at", "missing_since", "title", "username")


class InvariantBroken(AssertionError):
    """An invariant does not hold."""


@dataclass
class Invariants:
    """Checks the invariants of one seed.

    unreported_changes: (username, course key) of enrollments that were changed in the LMS and not
    yet reported to the application. lost_accounts: usernames, in lower case, of accounts that the
    LMS lost. Only a recheck is sure to notice a lost account. In the checks of a row, ``old`` is
    the row before the last step; None for a new row."""

    scheduler: Scheduler
    records: Records
    lms_data: LmsData
    network: Network
    event_log: EventLog
    #: ``lease_owner`` of a row → the process that claimed the row.
    owners: dict[str, Process] = field(default_factory=dict)
    unreported_changes: set[tuple[str, str]] = field(default_factory=set)
    lost_accounts: set[str] = field(default_factory=set)
    #: Id of a user → LMS username, for texts about users who were deleted since.
    _names: dict[int, str] = field(default_factory=dict)

    # After every step

    def check_step(self) -> None:
        """Check and log the rows that the last step changed."""
        earlier_rows = self.records.refresh()
        if earlier_rows is None:  # the step wrote nothing
            return
        task = self.scheduler.last_task
        for kind, rows in self.records.rows.items():
            for pk, row in rows.items():
                old = earlier_rows[kind].get(pk)
                if old == row:
                    continue
                self._note_owner(row, task)
                self._log_change(kind, row, old, task)
                self._check_limits(kind, row)
                self._check_refusal(kind, row, old)
                # Some kinds have a check of their own, such as ``_check_account``.
                check_kind = getattr(self, f"_check_{kind}", None)
                if check_kind is not None:
                    check_kind(row, old)
        for kind, rows in earlier_rows.items():
            for pk in rows.keys() - self.records.rows[kind].keys():
                self.event_log.add("", f"{self._subject(kind, rows[pk])} is deleted")
        self.check_nothing_is_forgotten()

    def _note_owner(self, row: Row, task: Any) -> None:
        """Records which process has claimed the row. task: the thread that took the last step."""
        if row["lease_owner"] and task is not None:
            self.owners.setdefault(row["lease_owner"], task.process)

    def _check_limits(self, kind: str, row: Row) -> None:
        """Raises InvariantBroken after too many attempts of this row, or requests of this seed."""
        if row["attempts"] > MAX_ATTEMPTS:
            raise InvariantBroken(f"{self._subject(kind, row)}: {row['attempts']} attempts")
        if len(self.network.messages) > MAX_REQUESTS:
            raise InvariantBroken(f"{MAX_REQUESTS} requests, and no end")

    def _check_refusal(self, kind: str, row: Row, old: Row | None) -> None:
        """Raises InvariantBroken for a refused row without a reason, or one that the LMS did not
        refuse."""
        if not row["refused_at"] or (old and old["refused_at"]):
            return
        subject = self._subject(kind, row)
        if not row["error_code"] or not row["error_message"]:
            raise InvariantBroken(f"{subject} is refused without a reason")
        if row["error_code"] in _OWN_REFUSALS:
            return
        if kind == "run":
            if row["course_key"] in self.lms_data.runs:
                raise InvariantBroken(f"{subject} is refused as missing, and the LMS has it")
            return
        # The LMS's refusals to sign somebody in are recorded without a username.
        name = "" if kind == "token" else subject.removeprefix(f"{kind} ")
        if (kind, name) not in self.lms_data.refused:
            raise InvariantBroken(
                f"{subject} is refused ({row['error_code']}: {row['error_message']}), and the LMS "
                "never did that"
            )

    def _check_account(self, row: Row, old: Row | None) -> None:
        """Raises InvariantBroken if an existing account counts as lost, or is somebody else's."""
        was_created = old and old["created_in_lms_at"] and old["username"] == row["username"]
        if was_created and not row["created_in_lms_at"] and self._is_in_lms(row):
            raise InvariantBroken(f"account {row['username']} counts as lost, and the LMS has it")
        if row["created_in_lms_at"] and row["username"].lower() not in self.lost_accounts:
            person = self.lms_data.people.get(row["username"].lower(), "nobody")
            if person != row["user_id"]:
                raise InvariantBroken(
                    f"the account {row['username']} of learner {row['user_id']} belongs to "
                    f"{_person_text(person)} in the LMS"
                )

    def _is_in_lms(self, row: Row) -> bool:
        """Whether the LMS has this learner's account with the row's username."""
        return self.lms_data.people.get(row["username"].lower()) == row["user_id"]

    def _check_token(self, row: Row, old: Row | None) -> None:
        """Raises InvariantBroken if the row has a new token of somebody else's account."""
        from usher.application.tokens import vault

        if not row["access_token"] or (old and old["access_token"] == row["access_token"]):
            return
        owner = self.lms_data.access.get(vault.decrypt(row["access_token"]))
        if owner is None and self.lost_accounts:
            return  # the LMS no longer knows the tokens of an account that it lost
        username = "" if owner is None else owner.lower()
        if username in self.lost_accounts:
            return
        person = self.lms_data.people.get(username, "nobody")
        if person != row["user_id"]:
            raise InvariantBroken(
                f"learner {row['user_id']} has a token of the account {owner}, which belongs to "
                f"{_person_text(person)}"
            )

    def _check_run(self, row: Row, old: Row | None) -> None:
        """Raises InvariantBroken if the last step marked a run as missing that the LMS has."""
        is_newly_missing = row["missing_since"] and not (old and old["missing_since"])
        if is_newly_missing and row["course_key"] in self.lms_data.runs:
            raise InvariantBroken(
                f"{short(row['course_key'])} is marked missing, and the LMS has it"
            )

    # No desired state is forgotten

    def check_nothing_is_forgotten(self) -> None:
        """Raises InvariantBroken if a row differs from the LMS, and no worker will process it."""
        for kind, row, difference in self.differences():
            is_known = row["due_at"] or row["refused_at"]
            if not is_known and not self._is_processed_after_pause(kind, row):
                raise InvariantBroken(
                    f"{self._subject(kind, row)} is forgotten: {difference}, and nothing is due"
                )

    def differences(self) -> Iterator[tuple[str, Row, str]]:
        """Kind, row and description of every row whose desired state differs from the LMS."""
        for kind, difference_of in (
            ("account", self._account_difference),
            ("enrollment", self._enrollment_difference),
            ("profile", self._profile_difference),
            ("retirement", self._retirement_difference),
        ):
            for row in self.records.rows[kind].values():
                difference = difference_of(row)
                if difference is not None:
                    yield kind, row, difference

    # Each of these methods returns None if the row and the LMS do not differ.

    def _account_difference(self, row: Row) -> str | None:
        if row["username"].lower() in self.lost_accounts:
            return None
        lms_account = self.lms_data.account_of(row["username"]) if self._is_in_lms(row) else None
        if row["is_active"]:
            is_missing = lms_account is None or not row["created_in_lms_at"]
            return "there is no account" if is_missing else None
        is_active_in_lms = lms_account is not None and lms_account.is_active
        return "it is active in the LMS" if is_active_in_lms else None

    def _profile_difference(self, row: Row) -> str | None:
        account = self.records.account_of(row["user_id"])
        lms_account = self.lms_data.account_of(account["username"]) if account else None
        if lms_account is None or lms_account.username.lower() in self.lost_accounts:
            return None
        for name in ("name", "country", "email"):
            value_in_lms = getattr(lms_account, name)
            if row[name] and row[name] != value_in_lms:
                return f"the LMS has {name} {value_in_lms!r}"
        return None

    def _retirement_difference(self, row: Row) -> str | None:
        lms_account = self.lms_data.account_of(row["username"])
        is_strangers = self.lms_data.people.get(row["username"].lower()) is None
        if lms_account is None or is_strangers:
            return None
        return "the account is active" if lms_account.is_active else None

    def _enrollment_difference(self, row: Row) -> str | None:
        key = self.records.rows["run"][row["run_id"]]["course_key"]
        account = self.records.account_of(row["user_id"])
        username = account["username"] if account else ""
        if (username, key) in self.unreported_changes or username.lower() in self.lost_accounts:
            return None
        in_lms = self.lms_data.enrollments.get((username, key)) if account else None
        desired_mode, desired_active = row["mode"], row["is_active"] == 1
        if in_lms is None:
            return "the LMS has none" if desired_active else None
        mode, is_active = in_lms.state
        if is_active != desired_active or (is_active and mode != desired_mode):
            return f"the LMS has {mode}, {'active' if is_active else 'inactive'}"
        return None

    def _is_processed_after_pause(self, kind: str, row: Row) -> bool:
        """Whether a worker that was paused has sent, or is about to send, a request about the row.
        Such a request is allowed although the worker's lease may have ended: the worker checks the
        row again when it writes the result."""
        for task in self.scheduler.tasks:
            if not task.jobs or task.dead or task.process.is_dead:
                continue
            processed_rows = [(job_kind, job.row.pk) for job_kind, job in task.jobs]
            if (kind, row["id"]) not in processed_rows:
                continue
            if task.process.was_paused(task.began - LEASE_SECONDS, self.scheduler.now):
                return True
        return False

    # When a request changes the LMS

    def check_arrival(self, message: Message) -> None:
        """Raises InvariantBroken if another worker has claimed a row that the request is about,
        unless the sender was paused."""
        if message.request.method == "GET" or not message.jobs:
            return
        now = self.scheduler.now
        for kind, job in message.jobs:
            row = self.records.rows.get(kind, {}).get(job.row.pk)
            if row is None or row["lease_owner"] in ("", job.row.lease_owner):
                continue
            is_leased = seconds(row["lease_until"], default=0.0) > now
            if is_leased and not message.process.was_paused(message.began - LEASE_SECONDS, now):
                holder = self.owners.get(row["lease_owner"], "somebody")
                raise InvariantBroken(
                    f"a request of {message.process} about {self._subject(kind, row)} reaches the "
                    f"LMS while {holder} has claimed that row"
                )

    def check_answer(self, message: Message) -> None:
        """After an answer of the LMS, check that it left the accounts of strangers unchanged, and
        that nothing is forgotten."""
        for name, account in self.lms_data.accounts.items():
            person = self.lms_data.people.get(name, "nobody")
            if person is None and (account.uid or not account.is_active):
                raise InvariantBroken(f"the account of the stranger {account.username} was changed")
        self.check_nothing_is_forgotten()

    # A message of the LMS

    def deliver_webhook(self, act: Callable[[], Any]) -> None:
        """Deliver a message of the LMS by ``act()``, and check that no row loses what a worker has
        written into it, such as its refusal."""
        kept_fields = ("attempts", "error_code", "error_message", "refused_at", "lease_owner")
        self.check_step()
        earlier_rows = self.records.rows  # the next ``check_step`` reads the rows into a new dict
        act()
        self.check_step()
        for kind, rows in earlier_rows.items():
            for pk, old in rows.items():
                row = self.records.rows[kind].get(pk, old)
                for name in kept_fields:
                    if row[name] != old[name]:
                        raise InvariantBroken(
                            f"a message of the LMS made {self._subject(kind, row)} lose its "
                            f"{name} {old[name]!r}"
                        )

    # At the end

    def unsettled(self) -> list[str]:
        """A sentence for each row that is due and can be settled."""
        sentences = []
        for kind, rows in self.records.rows.items():
            for row in rows.values():
                if row["due_at"] and not self._waits_for_account(row):
                    reason = f"{row['error_code']} {row['error_message']}".strip()
                    sentences.append(
                        f"{self._subject(kind, row)} is due: {reason or 'not done yet'}"
                    )
        return sentences

    def _waits_for_account(self, row: Row) -> bool:
        """Whether the row can't be settled because the learner has no active account, or because
        the LMS refused the account."""
        if row["error_code"] not in _WAITS_FOR_ACCOUNT:
            return False
        account = self.records.account_of(row["user_id"])
        return account is None or bool(account["refused_at"]) or not account["is_active"]

    def check_end(self) -> None:
        """Raises InvariantBroken unless the application and the LMS agree, except for refused rows
        and for rows that wait for an account."""
        for kind, row, difference in self.differences():
            if not row["refused_at"] and not self._waits_for_account(row):
                raise InvariantBroken(
                    f"in the end {self._subject(kind, row)} differs: {difference}"
                )
        self._check_tokens()
        self._check_deleted_users()
        self._check_titles()
        self._check_modes()

    def _check_tokens(self) -> None:
        """Raises InvariantBroken if an active account has no token, and its token was not
        refused."""
        for row in self.records.rows["token"].values():
            account = self.records.account_of(row["user_id"])
            should_have_token = account and account["created_in_lms_at"] and account["is_active"]
            if should_have_token and not row["access_token"] and not row["refused_at"]:
                raise InvariantBroken(f"in the end learner {row['user_id']} has no token")

    def _check_titles(self) -> None:
        """Raises InvariantBroken unless each run that the LMS has is called as in the LMS."""
        for row in self.records.rows["run"].values():
            lms_run = self.lms_data.runs.get(row["course_key"])
            if lms_run is not None and lms_run["name"] != row["title"]:
                raise InvariantBroken(
                    f"in the end {short(row['course_key'])} is called {row['title']!r} here and "
                    f"{lms_run['name']!r} in the LMS"
                )

    def _check_deleted_users(self) -> None:
        """Raises InvariantBroken if the LMS account of a deleted user is still active, although
        its retirement was not refused."""
        user_ids = {row["user_id"] for row in self.records.rows["account"].values()}
        # The LMS can't retire these accounts, and staff see that in the refused row.
        left_to_staff = {
            row["username"].lower()
            for row in self.records.rows["retirement"].values()
            if row["refused_at"]
        }
        for name, owner_id in self.lms_data.people.items():
            if (
                owner_id is None  # an account that never belonged to a learner
                or owner_id in user_ids
                or name in left_to_staff
                or name in self.lost_accounts  # the LMS lost it
            ):
                continue
            if self.lms_data.accounts[name].is_active:
                raise InvariantBroken(
                    f"in the end {name} is gone here and has an active account in the LMS"
                )

    def _check_modes(self) -> None:
        """Raises InvariantBroken unless each run has the same modes and prices as in the LMS."""
        from usher.application.runs.models import CourseMode

        for run in self.records.rows["run"].values():
            raw_modes = self.lms_data.modes.get(run["course_key"])
            if raw_modes is None:
                continue
            rows = CourseMode.objects.filter(run_id=run["id"])
            own_modes = sorted(rows.values_list("slug", "currency", "min_price"))
            modes_in_lms = sorted(
                (mode["mode_slug"], mode["currency"], mode["min_price"]) for mode in raw_modes
            )
            if own_modes != modes_in_lms:
                raise InvariantBroken(
                    f"in the end the modes of {short(run['course_key'])} are {own_modes} here and "
                    f"{modes_in_lms} in the LMS"
                )

    # Texts

    def _subject(self, kind: str, row: Row) -> str:
        """The row for people, such as ``enrollment ann in course-v1:…``."""
        if kind == "enrollment":
            run = self.records.rows["run"].get(row["run_id"])
            return f"enrollment {self._name(row)} in {run['course_key'] if run else '?'}"
        if kind == "run":
            return f"run {row['course_key']}"
        if kind == "mode":
            run = self.records.rows["run"].get(row["run_id"])
            return f"modes of {run['course_key'] if run else '?'}"
        return f"{kind} {row.get('username') or self._name(row)}"

    def _name(self, row: Row) -> str:
        """The LMS username of the row's user; ``learner <id>`` if none was ever known."""
        account = self.records.account_of(row["user_id"])
        if account is not None:
            self._names[row["user_id"]] = account["username"]
        return self._names.get(row["user_id"], f"learner {row['user_id']}")

    def _log_change(self, kind: str, row: Row, old: Row | None, task: Any) -> None:
        """Add a line about the columns that a step changed. task: the thread that took the step."""
        who = task.process if task is not None else ""
        subject = short(self._subject(kind, row))
        changes = [] if old else ["made"]
        # A new row is compared with a row that has None in every column.
        earlier = old or dict.fromkeys(row)
        changed = {name for name in row if row[name] != earlier[name]}
        # The row's work
        if "lease_owner" in changed:
            if row["lease_owner"]:
                changes.append(f"claimed by {self.owners.get(row['lease_owner'], '?')}")
            elif earlier["lease_owner"]:
                changes.append("lease ended")
        if (row["refused_at"] is None) != (earlier["refused_at"] is None):
            changes.append("refused" if row["refused_at"] else "no longer refused")
        if "error_code" in changed and row["error_code"]:
            changes.append(f"{row['error_code']} ({row['error_message'][:90]})")
        if "attempts" in changed:
            changes.append(f"{row['attempts']} attempts")
        if "due_at" in changed:
            due_at = row["due_at"]
            changes.append(f"due at {seconds(due_at):.3f}" if due_at else "nothing due")
        # The row itself
        for name in _LOGGED_COLUMNS:
            if name in changed:
                changes.append(f"{name} {row[name]}")
        if changed & {"generation", "observed_generation"}:
            changes.append(f"generation {row['observed_generation']} of {row['generation']}")
        if changes:
            self.event_log.add(who, f"  {subject}: {', '.join(changes)}")


def _person_text(person: int | str | None) -> str:
    """The owner of an LMS account, as the text of a message. person: a value of
    ``LmsData.people``, or "nobody" for an account that the LMS does not have."""
    if person is None:
        return "a stranger"
    return str(person) if person == "nobody" else f"learner {person}"
