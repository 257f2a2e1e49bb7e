"""The batch API on MariaDB with ``ATOMIC_REQUESTS``, and with the locks and costs of the platform's
receivers.

``MYSQL_PORT=3306`` uses a running MySQL instead (see ``benchmarks/mariadb.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from benchmarks.mariadb import MariaDb, mariadb, missing_requirement

from tests.lms.application import RunningApplication
from tests.lms.conftest import DEMO, E2E, TOKEN, Lms, account, description
from tests.lms.test_batch import ACCOUNTS, ENROLLMENTS, post
from tests.lms.test_batch_transactions import (
    ENROLL_WITH_A_ROLLBACK,
    create_accounts,
    enrolled_as_verified,
    enrollments,
    run_script,
)
from tests.lms.test_sign_out import send_logout_token
from tests.lms.test_ways_to_an_account import batch_enroll, public_enroll, without_varying_values
from tests.support.served import served_lms

pytestmark = [
    pytest.mark.skipif(bool(missing_requirement()), reason=f"left out: {missing_requirement()}"),
    pytest.mark.slow,
]


@dataclass
class OnMariaDb(Lms):
    """An LMS whose database is on MariaDB."""

    server: MariaDb

    def execute(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.server.rows("usher_test", sql.replace("?", "%s"), *values)


@pytest.fixture(scope="module")
def lms() -> Iterator[OnMariaDb]:
    """An LMS on MariaDB, in place of the LMS on SQLite that other modules use."""
    with mariadb("usher_test") as server, RunningApplication() as application:
        settings = {
            "USHER_BACKENDS": {"mitxpro-oauth2": "mitxpro-oauth2"},
            "DATABASE_URL": server.url("usher_test"),
            "PLATFORM_COSTS": True,  # statements and locks like those of the whole platform
            "ATOMIC_REQUESTS": True,
        }
        with served_lms("seed_courses", **settings) as served:
            running = OnMariaDb(served.folder, served.url, application, served.django, server)
            running.provision(description(application.description()))
            yield running


def post_twice_at_once(lms: Lms, path: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Posts the items in two simultaneous requests, in one of them in reverse order. Returns the
    results of both."""
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(post, lms, path, items)
        second = pool.submit(post, lms, path, items[::-1])
        return [*first.result(), *second.result()]


def test_simultaneous_batches_of_the_same_items_all_succeed(lms: OnMariaDb, name: str) -> None:
    """Their items are in opposite order. The batch API repeats transactions that MariaDB ends
    because of a deadlock, so that callers see no error."""
    for number in range(20):
        usernames = [f"{name}{number:02}_{index:02}" for index in range(10)]

        results = post_twice_at_once(lms, ACCOUNTS, [account(username) for username in usernames])

        assert {result["status"] for result in results} == {"created", "exists"}, results

        enrollments_to_post: list[dict[str, Any]] = []
        for username in usernames:
            for run in (DEMO, E2E):
                item = {"username": username, "course_id": run, "mode": "audit"}
                enrollments_to_post.append({"id": f"{username} {run}", **item})

        results = post_twice_at_once(lms, ENROLLMENTS, enrollments_to_post)

        statuses = [result["status"] for result in results]
        assert set(statuses) <= {"changed", "unchanged"}, results
        assert statuses.count("changed") >= len(enrollments_to_post)


def test_a_batch_is_repeated_after_a_rollback_that_a_receiver_hides(
    lms: OnMariaDb, name: str
) -> None:
    """After the rollback, MySQL executes the remaining statements in a new transaction."""
    names = create_accounts(lms, name)
    outcome = run_script(lms, ENROLL_WITH_A_ROLLBACK, items=enrollments(names))

    ids = {each["id"] for each in outcome if each["status"] == "changed"}
    assert ids == enrolled_as_verified(lms, names) == set(names)


def test_the_link_to_an_existing_forum_role_is_not_inserted_again(lms: OnMariaDb) -> None:
    """Inserting the link again at the second save of an enrollment would lock the index of these
    links."""
    script = """
from usher.embedded.platform_load.models import ForumRole
from django.test.utils import CaptureQueriesContext
user = User.objects.first()
role, _ = ForumRole.objects.get_or_create(course_id="course-v1:a+b+c", name="Student")
role.users.add(user)
with CaptureQueriesContext(connection) as queries:
    role.users.add(user)
outcome = [query["sql"] for query in queries if "INSERT" in query["sql"]]
"""
    assert run_script(lms, script) == []


#: Tables that are written when a learner is enrolled.
TABLES = (
    "student_courseenrollment",
    "platform_costs_forumrole_users",
    "social_auth_usersocialauth",
)


def test_the_batch_api_creates_the_same_enrollment_rows_as_the_public_api(
    lms: OnMariaDb, name: str
) -> None:
    create_accounts(lms, name, 2)
    name_of_public_api, name_of_batch_api = f"{name}_00", f"{name}_01"
    public_enroll(lms, name_of_public_api)
    batch_enroll(lms, name_of_batch_api)

    def rows_of(table: str, username: str) -> list[Any]:
        columns = [row[0] for row in lms.execute(f"describe {table}")]
        rows = lms.execute(
            f"select t.* from {table} t join auth_user u on u.id = t.user_id where username = ?",
            username,
        )
        # Ids differ between the two learners.
        return [
            without_varying_values(
                {k: str(v) for k, v in zip(columns, row, strict=True) if "id" not in k}, username
            )
            for row in rows
        ]

    for table in TABLES:
        assert rows_of(table, name_of_public_api) == rows_of(table, name_of_batch_api), table
        assert rows_of(table, name_of_public_api), table


def test_simultaneous_repeated_requests_create_tokens_once(lms: OnMariaDb, name: str) -> None:
    items = [account(f"{name}{number:02}", tokens=True) for number in range(30)]
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(post, lms, ACCOUNTS, items, request_id=name) for _ in range(3)]
        tokens = [
            [result["tokens"]["access_token"] for result in future.result()] for future in futures
        ]
    assert tokens[0] == tokens[1] == tokens[2]
    number_of_tokens = (
        "select count(*) from oauth2_provider_accesstoken t join auth_user u on u.id = t.user_id "
        "where username like ?"
    )
    assert lms.value(number_of_tokens, name + "%") == 30


def test_request_ids_that_differ_only_in_case_are_different(lms: OnMariaDb, name: str) -> None:
    # A repeated request with the same id would have the first result, "created". With another item
    # it would be refused.
    items = [account(name + "a")]
    assert post(lms, ACCOUNTS, items, request_id=f"{name}-id")[0]["status"] == "created"
    assert post(lms, ACCOUNTS, items, request_id=f"{name}-ID")[0]["status"] == "exists"
    other = [account(name + "b")]
    assert post(lms, ACCOUNTS, other, request_id=f"{name}-Id")[0]["status"] == "created"


def test_a_token_that_differs_only_in_case_is_not_found(lms: OnMariaDb) -> None:
    with lms.api(TOKEN.swapcase()) as api:
        assert api.get("/usher/api/v1/").status_code == 401
    script = """
from types import SimpleNamespace
from oauth2_provider.models import get_access_token_model
from usher.lms.connections import tokens
model = SimpleNamespace(  # of the toolkit before 3.0, which has no checksum
    objects=get_access_token_model().objects, _meta=SimpleNamespace(get_fields=lambda: []))
tokens.get_access_token_model = lambda: model
candidates = [given["token"], given["token"].swapcase()]
outcome = [tokens.find_access_token(each) is not None for each in candidates]
"""
    assert run_script(lms, script, token=TOKEN) == [True, False]


def test_logout_tokens_whose_ids_differ_only_in_case_are_different(
    lms: OnMariaDb, name: str
) -> None:
    for jti in (f"{name}-id", f"{name}-ID"):
        token = lms.application.logout_token(name, jti=jti)
        assert send_logout_token(lms, token).status_code == 200
    again = send_logout_token(lms, lms.application.logout_token(name, jti=f"{name}-ID"))
    assert "used before" in again.json()["error_description"]


def test_messages_are_stored_in_tables_that_django_4_or_5_created(lms: OnMariaDb) -> None:
    """Migration 0003 with Django 4.2 creates ``event_id`` as char(32), with 5.2 as uuid. A later
    migration changes either type to a text of 36 characters."""
    column = (
        "select column_type from information_schema.columns "
        "where table_schema = 'usher_test' and table_name = 'usher_lms_message' "
        "and column_name = 'event_id'"
    )
    back = lms.run("migrate", "usher_lms", "0003")
    assert back.returncode == 0, back.stderr
    try:
        assert lms.value(column) in ("uuid", "char(32)")  # MariaDB, MySQL
        # Change the table to what Django 4.2 creates and writes.
        lms.execute("alter table usher_lms_message modify event_id varchar(36) not null")
        lms.execute("update usher_lms_message set event_id = replace(event_id, '-', '')")
        lms.execute("alter table usher_lms_message modify event_id char(32) not null")
    finally:
        forward = lms.run("migrate", "usher_lms")
    assert forward.returncode == 0, forward.stderr
    assert lms.value(column) == "varchar(36)"
    create_accounts(lms, "after_migration", 1)  # stores a message


def test_short_uuid_columns_that_django_4_created_are_reported(lms: OnMariaDb) -> None:
    """Django 4.2 created these columns as ``char(32)``, and Django 5 writes 36 characters."""
    table, column = "oauth2_provider_refreshtoken", "token_family"
    if "MariaDB" not in lms.value("select version()"):
        pytest.skip("MySQL has no column type for UUIDs")

    def read_reported_columns() -> list[dict[str, Any]]:
        result = lms.run("usher_report", "--no-probe")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)["short_uuid_columns"]

    assert read_reported_columns() == []
    lms.execute(f"update {table} set {column} = null")  # 36 characters would not fit
    lms.execute(f"alter table {table} modify {column} char(32) null")
    try:
        assert read_reported_columns() == [{"table": table, "column": column, "null": True}]
    finally:
        lms.execute(f"alter table {table} modify {column} uuid")
    assert read_reported_columns() == []
