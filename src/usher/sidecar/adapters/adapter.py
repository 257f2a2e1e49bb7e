"""The classes of which adapters consist."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_LOOKUP = re.compile(r"__(isnull|lt|gt|startswith)$")
#: Primary key and timestamp columns that the tables of both applications have.
CREATED = "created_on"
#: A condition for the agent: path → value, which must all hold, or a list of such conditions, of
#: which one must hold.
Condition = Mapping[str, Any] | list[Mapping[str, Any]]


@dataclass(frozen=True)
class Table:
    """model: app label and name. columns: the sidecar's name → the application's column or path.

    methods: methods of the model that the sidecar calls.
    """

    model: str
    columns: Mapping[str, str]
    methods: tuple[str, ...] = ()

    @property
    def paths(self) -> list[str]:
        return list(self.columns.values())

    def named(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row of the agent with the sidecar's names, and its ``pk``."""
        return {"pk": row["pk"], **{our: row[theirs] for our, theirs in self.columns.items()}}


@dataclass(frozen=True)
class Audit:
    """The audit rows that ``save_and_log`` writes. row, before, after: the columns with the saved
    row and its ``to_dict`` before and after. related: relations that ``to_dict`` reads."""

    model: str
    row: str
    before: str
    after: str
    related: tuple[str, ...]

    def request(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "row": self.row,
            "before": self.before,
            "after": self.after,
            "with": self.related,
        }


#: The same in both applications.
ENROLLMENT_AUDIT = Audit(
    "courses.CourseRunEnrollmentAudit",
    row="enrollment_id",
    before="data_before",
    after="data_after",
    related=("user", "run"),
)


@dataclass(frozen=True)
class RunModes:
    """modes: the table of all modes. offered: the table with a row for each mode of a run. paid:
    the paid mode, whose end is the run's ``deadline``."""

    modes: Table
    offered: Table
    paid: str


@dataclass(frozen=True)
class Selection:
    """Selects rows of a table, for which every ``filter`` holds and no ``exclude``."""

    filter: tuple[Condition, ...] = ()
    exclude: tuple[Condition, ...] = ()

    def also(self, *conditions: Condition, exclude: tuple[Condition, ...] = ()) -> Selection:
        return Selection((*self.filter, *conditions), (*self.exclude, *exclude))

    def request(self) -> dict[str, Any]:
        return {"filter": list(self.filter), "exclude": list(self.exclude)}

    def by(self, relation: str) -> Selection:
        """Returns a selection of another table: rows whose ``relation`` is in this selection."""

        def path(alternative: Mapping[str, Any]) -> Mapping[str, Any]:
            return {f"{relation}__{name}": value for name, value in alternative.items()}

        conditions = tuple(
            [path(each) for each in one] if isinstance(one, list) else path(one)
            for one in self.filter
        )
        return Selection(conditions)

    @property
    def paths(self) -> set[str]:
        """Returns the columns in the conditions."""
        found: set[str] = set()
        for condition in (*self.filter, *self.exclude):
            for alternative in condition if isinstance(condition, list) else [condition]:
                found.update(_LOOKUP.sub("", path) for path in alternative)
        return found


@dataclass(frozen=True)
class Lock:
    """function: the application's function that makes a lock of a given name. name: with ``{}`` for
    the user's ``column``. expire: seconds."""

    function: str
    name: str
    column: str
    expire: int


@dataclass(frozen=True)
class Adapter:
    """One application.

    users_taken: the users for whom its own code would create accounts. account, token: tables with
    one row a user, found by ``user``. audit: the audit table of enrollments. account_name:
    ``users`` or ``account``, the table whose ``username`` is the one in the LMS. enrollment_mode:
    '' when the table has a mode. retry_limit: attempts after which the application gives up; 0 if
    it never does. name_function: its function that chooses a user's LMS username; '' if it has
    none. users_due: those of users_taken who lack an account or a token. enrollments_due:
    enrollments to create, of learners who have an account. enrollment_username: path to the LMS
    username. enrollment_run: column of the run's primary key. enrollments_waiting: enrollments that
    become due when their learners have accounts. mode_instead: the mode that its own code takes if
    the LMS doesn't offer the desired one. lock: the lock that its own code holds while it creates
    an account. grace: seconds for which its own code leaves new rows to the request that created
    them. users_changed, enrollments_changed, runs_changed: columns with the time of a row's last
    change; other changes are found only by a full check. profile_changed: further such columns, for
    profiles. enrollment_account_changed: paths from an enrollment to such columns of its learner's
    account. unenrollments_due: enrollments that the application ended without success in the LMS.
    when_enrolled, when_unenrolled: further values that its own code writes then, by the sidecar's
    names. profile: the details of a learner that its own code sends to the LMS. graded: runs whose
    grades are compared. run_modes: the tables of the modes of runs; None if the application has
    none. landing: name of its URL that receives the LMS's authorization codes. registration_token:
    its setting for an LMS that restricts registration.
    """

    name: str
    title: str
    users: Table
    users_taken: Selection
    account: Table
    account_name: str
    token: Table
    enrollments: Table
    enrollments_taken: Selection
    audit: Audit
    runs: Table
    runs_taken: Selection
    users_due: Selection
    enrollments_due: Selection
    enrollments_waiting: Selection
    unenrollments_due: Selection
    grace: int
    users_changed: tuple[str, ...]
    enrollments_changed: tuple[str, ...]
    enrollment_account_changed: tuple[str, ...]
    profile_changed: tuple[str, ...]
    runs_changed: tuple[str, ...]
    enrollment_username: str
    grades: Table
    certificates: Table
    graded: Selection
    profile: tuple[str, ...]
    when_enrolled: Mapping[str, Any] = field(default_factory=dict)
    when_unenrolled: Mapping[str, Any] = field(default_factory=dict)
    enrollment_mode: str = ""
    mode_instead: str = ""
    enrollment_run: str = "run_id"
    landing: str = "openedx-private-oauth-complete"
    registration_token: str = ""
    lock: Lock | None = None
    run_modes: RunModes | None = None
    retry_limit: int = 0
    name_function: str = ""

    def changed_users(self, seconds: float) -> Condition:
        """Returns the condition for users that changed, or whose grace period ended, in the last
        ``seconds``."""
        return _changed(self.users_changed, seconds, self.grace)

    def changed_enrollments(self, seconds: float) -> Condition:
        return _changed(self.enrollments_changed, seconds, self.grace)

    def newly_due_enrollments(self, seconds: float) -> Condition:
        """Returns the condition for enrollments that changed, or whose learner got an account."""
        columns = (*self.enrollments_changed, *self.enrollment_account_changed)
        return _changed(columns, seconds, self.grace)

    def changed_profiles(self, seconds: float) -> Condition:
        return _changed((*self.users_changed, *self.profile_changed), seconds, self.grace)

    def changed_runs(self, seconds: float) -> Condition:
        return _changed(self.runs_changed, seconds)

    @property
    def tables(self) -> tuple[Table, ...]:
        return (
            self.users,
            self.account,
            self.token,
            self.enrollments,
            self.runs,
            self.grades,
            self.certificates,
            *((self.run_modes.modes, self.run_modes.offered) if self.run_modes else ()),
        )

    def check_request(self) -> dict[str, Any]:
        """Returns the request for ``agent.check``."""
        named = (self.name_function, self.lock and self.lock.function)
        functions = [name for name in named if name]
        locked = {self.lock.column} if self.lock else set()
        looked_at = {
            self.users.model: self.users_due.paths
            | locked
            | {*self.users_changed, *self.profile_changed},
            self.enrollments.model: self.enrollments_due.paths
            | self.enrollments_waiting.paths
            | self.unenrollments_due.paths
            | {*self.enrollments_changed, *self.enrollment_account_changed}
            | {self.enrollment_username, self.enrollment_run, *self.audit.related},
            self.runs.model: self.runs_taken.paths | self.graded.paths | {*self.runs_changed},
        }
        audit = [self.audit.row, self.audit.before, self.audit.after]
        return {
            "do": "check",
            "tables": [
                {
                    "model": table.model,
                    "fields": sorted({*table.paths, *looked_at.get(table.model, ())}),
                    "methods": list(table.methods),
                }
                for table in self.tables
            ]
            + [{"model": self.audit.model, "fields": audit, "methods": []}],
            "functions": functions,
        }


def _changed(columns: tuple[str, ...], seconds: float, grace: int = 0) -> Condition:
    new = {f"{CREATED}__gt": {"ago": grace + seconds}}
    return [new, *({f"{column}__gt": {"ago": seconds}} for column in columns)]
