"""The classes that describe an application's tables: an adapter is made of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: The lookup at the end of a path, which names no column.
_LOOKUP = re.compile(r"__(isnull|lt|gt|startswith)$")
#: The column with the time of a row's creation, in the tables of both applications.
CREATED = "created_on"
#: A condition for the agent: a mapping of paths to values, all of which must hold; or a list of
#: such mappings, one of which must hold.
Condition = Mapping[str, Any] | list[Mapping[str, Any]]


def user_condition(name: str, prefix: str = "") -> Condition:
    """Returns the condition for the user with this e-mail address or username. prefix: the path
    from the selected table to the user, such as ``user__``."""
    return [{f"{prefix}email": name}, {f"{prefix}username": name}]


@dataclass(frozen=True)
class Table:
    """A table of the application. model: app label and name. columns: the sidecar's name → the
    application's column, or a lookup path such as ``user__email``.

    methods: methods of the model that the sidecar calls.
    """

    model: str
    columns: Mapping[str, str]
    methods: tuple[str, ...] = ()

    @property
    def paths(self) -> list[str]:
        return list(self.columns.values())

    def rename_columns(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a row of the agent with the sidecar's names, and its ``pk``."""
        return {"pk": row["pk"], **{name: row[column] for name, column in self.columns.items()}}


@dataclass(frozen=True)
class Audit:
    """The audit rows that ``save_and_log`` writes. row, before, after: the columns that hold the
    saved row, and the results of its ``to_dict`` before and after the change. related:
    relations that ``to_dict`` reads."""

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
            "relations": self.related,
        }


#: MITx Online and MIT xPro have the same model.
ENROLLMENT_AUDIT = Audit(
    "courses.CourseRunEnrollmentAudit",
    row="enrollment_id",
    before="data_before",
    after="data_after",
    related=("user", "run"),
)


@dataclass(frozen=True)
class ModeTables:
    """The tables of the modes of course runs. modes: the table of all modes. links: the table with
    a row for each mode of a run. paid_slug: the slug of the paid mode, whose end is the run's
    ``deadline``."""

    modes: Table
    links: Table
    paid_slug: str


@dataclass(frozen=True)
class Selection:
    """Selects the rows of a table for which every condition of ``filter`` holds and none of
    ``exclude``."""

    filter: tuple[Condition, ...] = ()
    exclude: tuple[Condition, ...] = ()

    def narrowed_by(self, *conditions: Condition, exclude: tuple[Condition, ...] = ()) -> Selection:
        """Returns the selection with further conditions, all of which must hold too. exclude:
        conditions none of which may hold."""
        return Selection((*self.filter, *conditions), (*self.exclude, *exclude))

    def request(self) -> dict[str, Any]:
        """Returns the selection as values of the agent's requests ``page`` and ``count``."""
        return {"filter": list(self.filter), "exclude": list(self.exclude)}

    def conditions_through(self, relation: str) -> tuple[Condition, ...]:
        """Returns the conditions of ``filter`` for another table: for its rows whose ``relation``
        refers to a row that ``filter`` selects."""

        def add_relation(alternative: Mapping[str, Any]) -> Mapping[str, Any]:
            return {f"{relation}__{path}": value for path, value in alternative.items()}

        conditions: list[Condition] = []
        for condition in self.filter:
            if isinstance(condition, list):
                conditions.append([add_relation(alternative) for alternative in condition])
            else:
                conditions.append(add_relation(condition))
        return tuple(conditions)

    def without_age_limit(self) -> Selection:
        """Returns the selection without the conditions that leave out new rows."""
        conditions: list[Condition] = []
        for condition in self.filter:
            if isinstance(condition, list):
                conditions.append(condition)  # no list has an age limit
            else:
                conditions.append(
                    {
                        path: value
                        for path, value in condition.items()
                        if not path.endswith(f"{CREATED}__lt")
                    }
                )
        return Selection(tuple(conditions), self.exclude)

    @property
    def paths(self) -> set[str]:
        """The columns in the conditions."""
        paths: set[str] = set()
        for condition in (*self.filter, *self.exclude):
            alternatives = condition if isinstance(condition, list) else [condition]
            for alternative in alternatives:
                paths.update(_LOOKUP.sub("", path) for path in alternative)
        return paths


@dataclass(frozen=True)
class Lock:
    """The application's lock for a user. function: the application's function that makes a lock of
    a given name. name: the lock's name, with ``{}`` in place of the user's ``column``."""

    function: str
    name: str
    column: str
    expire_seconds: int


@dataclass(frozen=True)
class Adapter:
    """One application. "Its own code" is the application's code, without Usher.

    users: the table of users.
    eligible_users: the users for whom its own code would create accounts.
    users_due: the eligible users who lack an account or a token.
    user_change_columns: columns with the time of a user's last change. Only a full pass finds
        changes that these columns do not show. ``enrollment_change_columns`` and
        ``run_change_columns`` are the same for enrollments and runs.
    profile_change_columns: columns with the time of the last change of a user's profile, in
        addition to ``user_change_columns``.
    profile_fields: the values of a learner that its own code sends to the LMS.
    account, token: tables with one row for each user, found by ``user``.
    username_table: ``users`` or ``account``, the table whose ``username`` is the one in the LMS.
    name_function: the application's function that chooses a user's LMS username; '' if it has none.
    lock: the lock that its own code holds while it creates an account.
    grace_seconds: how long its own code leaves new rows to the request that created them.
    retry_limit: attempts after which the application gives up; 0 if it never does.
    eligible_enrollments, eligible_runs: the enrollments that its own code creates in the LMS,
        including those that it has created, and the runs that its own sync updates.
    enrollments_due: enrollments to create, of learners who have an account.
    enrollments_waiting: enrollments that become due when their learners have accounts.
    unenrollments_due: enrollments that the application ended, but could not end in the LMS.
    enrollment_username: the path from an enrollment to the LMS username.
    enrollment_run: the column of the run's primary key.
    account_change_columns: paths from an enrollment to columns with the time of the last change
        of its learner's account.
    enrollment_mode: the mode of all enrollments; '' if the table has a column for it.
    fallback_mode: the mode that its own code takes if the LMS doesn't offer the desired one.
    when_enrolled, when_unenrolled: further values that its own code writes when it enrolls or
        unenrolls, by the sidecar's names.
    audit: the audit table of enrollments.
    run_modes: the tables of the modes of runs; None if the application has none.
    graded_runs: the runs whose grades are compared.
    landing_url_name: the name of the application's URL that receives the LMS's authorization codes.
    registration_token_setting: the setting that holds its token for an LMS that restricts
        registration; '' if it has none.
    """

    name: str
    title: str
    users: Table
    eligible_users: Selection
    account: Table
    username_table: str
    token: Table
    enrollments: Table
    eligible_enrollments: Selection
    audit: Audit
    runs: Table
    eligible_runs: Selection
    users_due: Selection
    enrollments_due: Selection
    enrollments_waiting: Selection
    unenrollments_due: Selection
    grace_seconds: int
    user_change_columns: tuple[str, ...]
    enrollment_change_columns: tuple[str, ...]
    account_change_columns: tuple[str, ...]
    profile_change_columns: tuple[str, ...]
    run_change_columns: tuple[str, ...]
    enrollment_username: str
    grades: Table
    certificates: Table
    graded_runs: Selection
    profile_fields: tuple[str, ...]
    when_enrolled: Mapping[str, Any] = field(default_factory=dict)
    when_unenrolled: Mapping[str, Any] = field(default_factory=dict)
    enrollment_mode: str = ""
    fallback_mode: str = ""
    enrollment_run: str = "run_id"
    landing_url_name: str = "openedx-private-oauth-complete"
    registration_token_setting: str = ""
    lock: Lock | None = None
    run_modes: ModeTables | None = None
    retry_limit: int = 0
    name_function: str = ""

    def changed_users(self, seconds: float) -> Condition:
        """Returns the condition for users that changed, or whose grace period ended, in the last
        ``seconds``, and for users in their grace period."""
        return _changed_within(self.user_change_columns, seconds, grace_seconds=self.grace_seconds)

    def changed_enrollments(self, seconds: float) -> Condition:
        return _changed_within(
            self.enrollment_change_columns, seconds, grace_seconds=self.grace_seconds
        )

    def newly_due_enrollments(self, seconds: float) -> Condition:
        """Returns the condition for enrollments that changed, whose learner got an account, or
        whose grace period ended, in the last ``seconds``, and for those in their grace period."""
        columns = (*self.enrollment_change_columns, *self.account_change_columns)
        return _changed_within(columns, seconds, grace_seconds=self.grace_seconds)

    def changed_profiles(self, seconds: float) -> Condition:
        """Returns the condition of ``changed_users``, which also holds for users whose profile
        changed."""
        return _changed_within(
            (*self.user_change_columns, *self.profile_change_columns),
            seconds,
            grace_seconds=self.grace_seconds,
        )

    def changed_runs(self, seconds: float) -> Condition:
        return _changed_within(self.run_change_columns, seconds)

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
            *((self.run_modes.modes, self.run_modes.links) if self.run_modes else ()),
        )

    def check_request(self) -> dict[str, Any]:
        """Returns the request for ``agent.check``: all fields, methods and functions that the
        sidecar uses."""
        further_fields = self._further_fields()
        tables = [
            {
                "model": table.model,
                "fields": sorted({*table.paths, *further_fields.get(table.model, ())}),
                "methods": list(table.methods),
            }
            for table in self.tables
        ]
        audit_fields = [self.audit.row, self.audit.before, self.audit.after]
        tables.append({"model": self.audit.model, "fields": audit_fields, "methods": []})
        functions = [self.name_function] if self.name_function else []
        if self.lock:
            functions.append(self.lock.function)
        return {"action": "check", "tables": tables, "functions": functions}

    def _further_fields(self) -> dict[str, set[str]]:
        """Returns model → fields that the sidecar uses in addition to the table's columns, most of
        them in conditions."""
        of_users = {
            *self.users_due.paths,
            *self.user_change_columns,
            *self.profile_change_columns,
        }
        if self.lock:
            of_users.add(self.lock.column)
        of_enrollments = {
            *self.enrollments_due.paths,
            *self.enrollments_waiting.paths,
            *self.unenrollments_due.paths,
            *self.enrollment_change_columns,
            *self.account_change_columns,
            self.enrollment_username,
            self.enrollment_run,
            *self.audit.related,
        }
        of_runs = {
            *self.eligible_runs.paths,
            *self.graded_runs.paths,
            *self.run_change_columns,
        }
        return {
            self.users.model: of_users,
            self.enrollments.model: of_enrollments,
            self.runs.model: of_runs,
        }


def _changed_within(
    columns: tuple[str, ...], seconds: float, *, grace_seconds: int = 0
) -> Condition:
    """Returns the condition for rows that changed in the last ``seconds``, according to
    ``columns``, or were created in the last ``grace_seconds + seconds``: their grace period ended
    recently, or has not ended yet."""
    new = {f"{CREATED}__gt": {"ago": grace_seconds + seconds}}
    return [new, *({f"{column}__gt": {"ago": seconds}} for column in columns)]
