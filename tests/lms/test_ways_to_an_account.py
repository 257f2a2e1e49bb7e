"""Accounts have the same rows in all tables of the LMS, whether the registration API, the batch API
or a first sign-in created them. Enrollments have the same rows, whether the public API or the batch
API created them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lms.conftest import DEMO, TOKEN, Lms, account, person
from tests.lms.test_batch import ACCOUNTS, ENROLLMENTS, post

#: Tables that are not compared: codes, tokens, sessions, the plugin's log, and the anonymous id,
#: which the first sign-in creates. Registration signs the learner in, the batch API does not.
TABLES_NOT_COMPARED = (
    "student_anonymoususerid",
    "django_session",
    "oauth2_provider_accesstoken",
    "oauth2_provider_refreshtoken",
    "oauth2_provider_grant",
    "social_auth_partial",
    "usher_lms_learnersession",
    "usher_lms_message",
    "sqlite_sequence",
)
#: Columns with random values or times. The tests only compare whether they have a value.
VARYING_COLUMNS = ("password", "activation_key", "last_login", "expires", "token", "token_checksum")


def snapshot(lms: Lms) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables that may contain people's data."""
    names = lms.execute("select name from sqlite_master where type = 'table'")
    tables = [table for (table,) in names if table not in TABLES_NOT_COMPARED]
    rows_by_table = {}
    for table in tables:
        columns = [row[1] for row in lms.execute(f"pragma table_info('{table}')")]
        rows = lms.execute(f"select * from '{table}'")
        rows_by_table[table] = [dict(zip(columns, row, strict=True)) for row in rows]
    return rows_by_table


def added_rows(
    before: dict[str, list[dict[str, Any]]], after: dict[str, list[dict[str, Any]]], name: str
) -> dict[str, list[dict[str, Any]]]:
    """Table → its new and changed rows. Values that differ between two learners are replaced.
    name: the learner's username."""
    known_rows = {table: set(map(repr, rows)) for table, rows in before.items()}
    new_rows = {
        table: [
            without_varying_values(row, name) for row in rows if repr(row) not in known_rows[table]
        ]
        for table, rows in after.items()
    }
    return {table: rows for table, rows in new_rows.items() if rows}


def without_varying_values(row: dict[str, Any], name: str) -> dict[str, Any]:
    """The row with a fixed text in place of each value that differs between two learners. Of some
    columns only whether they have a value is kept. name: the learner's username."""
    return {column: fixed_value(column, content, name) for column, content in row.items()}


def fixed_value(column: str, content: Any, name: str) -> Any:
    is_id = column == "id" or (column.endswith("_id") and isinstance(content, int))
    if is_id:
        return "id"
    if column == "extra_data":
        return "data of the sign-in"
    if column == "last_login":
        return "when"
    if column in VARYING_COLUMNS:
        return bool(content)
    if not isinstance(content, str):
        return content
    is_date = content[:4].isdigit() and content[4:5] == "-"
    return "moment" if is_date else content.replace(name, "NAME")


def create_by_registration(lms: Lms, name: str) -> None:
    """Registers a learner with the LMS's registration API, as applications without the batch API
    do: with the registration token, here the service worker's, in ``X-Access-Token``."""
    token = lms.application.issue_token({"username": name, **person(name)})
    form = {
        "username": name,
        **person(name),
        "provider": "mitxpro-oauth2",
        "access_token": token,
        "honor_code": "true",
        "terms_of_service": "true",
    }
    with lms.api() as client:
        headers = {"X-Access-Token": TOKEN}
        answer = client.post("/user_api/v1/account/registration/", data=form, headers=headers)
    assert answer.status_code == 200, answer.text


def create_by_batch(lms: Lms, name: str) -> None:
    assert post(lms, ACCOUNTS, [account(name)])[0]["status"] == "created"


def create_by_sign_in(lms: Lms, name: str) -> None:
    browser = lms.sign_in(name)
    assert browser.get("/api/user/v1/me").json() == {"username": name}


def rows_created_by(lms: Lms, create: Any, name: str) -> dict[str, list[dict[str, Any]]]:
    """Calls ``create`` for the learner ``name``. Returns table → the rows that it added or changed,
    without values that differ between two learners."""
    before = snapshot(lms)
    create(lms, name)
    return added_rows(before, snapshot(lms), name)


@pytest.mark.parametrize("create", [create_by_batch, create_by_sign_in])
def test_accounts_have_the_same_rows_in_whichever_way_they_are_created(
    lms: Lms, name: str, create: Any
) -> None:
    registered = rows_created_by(lms, create_by_registration, name + "p")
    created = rows_created_by(lms, create, name + "o")

    assert {"auth_user", "auth_userprofile", "auth_registration"} < set(registered)
    assert {"social_auth_usersocialauth", "verify_student_ssoverification"} < set(registered)
    assert set(created) == set(registered)
    for table in registered:
        assert created[table] == registered[table], table


def test_the_log_has_a_new_account_in_whichever_way_it_is_created(lms: Lms, name: str) -> None:
    """The plugin logs a change when it receives the signals of an account."""
    for number, create in enumerate((create_by_registration, create_by_batch, create_by_sign_in)):
        create(lms, f"{name}{number}")
    logged = [
        lms.execute("select type from usher_lms_message where username = ?", f"{name}{number}")
        for number in range(3)
    ]
    assert [set(rows) for rows in logged] == [{("account.changed",)}] * 3


def public_enroll(lms: Lms, name: str) -> None:
    """Enrolls the learner through the public API."""
    body = {
        "user": name,
        "mode": "audit",
        "course_details": {"course_id": DEMO},
    }
    with lms.api() as api:
        answer = api.post("/api/enrollment/v1/enrollment", json=body)
    assert answer.status_code == 200, answer.text


def batch_enroll(lms: Lms, name: str) -> None:
    item = {"id": 1, "username": name, "course_id": DEMO, "mode": "audit"}
    assert post(lms, ENROLLMENTS, [item])[0]["status"] == "changed"


def test_both_apis_create_the_same_enrollment_rows(lms: Lms, name: str) -> None:
    post(lms, ACCOUNTS, [account(name + "p"), account(name + "b")])

    rows_of_public_api = rows_created_by(lms, public_enroll, name + "p")
    rows_of_batch_api = rows_created_by(lms, batch_enroll, name + "b")

    assert "student_courseenrollment" in rows_of_public_api
    assert json.dumps(rows_of_batch_api, sort_keys=True) == json.dumps(
        rows_of_public_api, sort_keys=True
    )


def test_no_password_matches_the_hash_that_the_batch_api_stores(lms: Lms, name: str) -> None:
    """The batch API stores a hash that is quick to compute, in a format that Django accepts."""
    create_by_batch(lms, name)
    script = (
        "from django.contrib.auth import get_user_model as g; "
        f"u = g().objects.get(username={name!r}); print(u.has_usable_password())"
    )
    assert lms.run("shell", "-c", script).stdout.split()[-1] == "True"
    with lms.browser() as browser:
        # With this hint the LMS shows its own form instead of redirecting to the application.
        browser.get("/login", params={"next": "/?tpa_hint=oa2-off"})
        for guess in ("", name, "edx"):
            form = {"email_or_username": name, "password": guess}
            token = browser.cookies.get("csrftoken", "")
            browser.post(
                "/api/user/v2/account/login_session/", data=form, headers={"X-CSRFToken": token}
            )
        assert browser.get("/api/user/v1/me").status_code == 401
