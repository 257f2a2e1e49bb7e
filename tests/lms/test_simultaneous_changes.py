"""Commands whose rows another process changes or locks at the same time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lms.conftest import Lms, account, description
from tests.lms.test_batch import ACCOUNTS, post
from tests.lms.test_batch_transactions import create_accounts, run_script

#: Runs the command in ``given["command"]``. ``outcome`` is its output, or its error.
RUN_COMMAND = """
import io
from django.core.management import CommandError, call_command
output = io.StringIO()
try:
    call_command(*given["command"], stdout=output)
    outcome = output.getvalue()
except CommandError as error:
    outcome = "error: " + str(error)
"""
#: Makes the first look-up of a link find none, as if the link was created just afterwards.
CREATE_THE_LINK_AFTERWARDS = """
from usher.lms.accounts import lookup
find_link = lookup.find_link
def find_none_once(backend, uid):
    lookup.find_link = find_link
    return None
lookup.find_link = find_none_once
"""
#: Raises the error ``given["error"]`` for the first ``given["times"]`` statements that write the
#: table ``given["table"]``.
FAIL_TO_WRITE = """
from django.db import DatabaseError, IntegrityError, OperationalError, connection
calls = []
def fail(execute, sql, params, many, context):
    if not sql.startswith("SELECT") and given["table"] in sql and len(calls) < given["times"]:
        calls.append(1)
        kind = IntegrityError if given["error"] == 1062 else OperationalError
        raise kind(given["error"], "as MariaDB says it")
    return execute(sql, params, many, context)
connection.execute_wrappers.append(fail)
"""
#: Undoes FAIL_TO_WRITE: the tests' scripts share a process.
WRITE_AGAIN = """
connection.execute_wrappers.remove(fail)
"""
#: MySQL's numbers of "Duplicate entry" and of a deadlock.
DUPLICATE, DEADLOCK = 1062, 1213
LINKS = "social_auth_usersocialauth"


def link_command(username: str) -> list[str]:
    return ["usher_link", "--username", username, "--application", "campus"]


def test_a_link_that_another_process_created_meanwhile_stays(lms: Lms, name: str) -> None:
    post(lms, ACCOUNTS, [account(name)])
    script = CREATE_THE_LINK_AFTERWARDS + RUN_COMMAND

    assert '"unchanged"' in run_script(lms, script, command=link_command(name))


def test_a_link_that_was_created_meanwhile_to_another_account_is_named(lms: Lms, name: str) -> None:
    first, second = create_accounts(lms, name, 2)
    links = f"delete from {LINKS} where uid = ?"
    lms.execute(links, first)
    lms.execute(f"update {LINKS} set uid = ? where uid = ?", first, second)
    script = CREATE_THE_LINK_AFTERWARDS + RUN_COMMAND

    outcome = run_script(lms, script, command=link_command(first))

    assert f"linked to LMS user '{second}'" in outcome
    assert "--move" in outcome


@pytest.mark.parametrize("error", [DUPLICATE, DEADLOCK])
@pytest.mark.parametrize(("times", "is_linked"), [(1, True), (9, False)])
def test_linking_is_repeated_and_then_gives_up(
    lms: Lms, name: str, error: int, times: int, is_linked: bool
) -> None:
    post(lms, ACCOUNTS, [account(name)])
    lms.execute(f"delete from {LINKS} where uid = ?", name)
    values = {"command": link_command(name), "table": LINKS, "error": error, "times": times}

    outcome = run_script(lms, FAIL_TO_WRITE + RUN_COMMAND + WRITE_AGAIN, **values)

    assert ('"linked"' if is_linked else "nothing was changed") in outcome
    assert bool(lms.execute(f"select 1 from {LINKS} where uid = ?", name)) == is_linked


@pytest.mark.parametrize("error", [DUPLICATE, DEADLOCK])
@pytest.mark.parametrize(("times", "is_moved"), [(1, True), (9, False)])
def test_moving_links_is_repeated_and_then_gives_up(
    lms: Lms, name: str, error: int, times: int, is_moved: bool
) -> None:
    backend = f"old-{name}"
    post(lms, ACCOUNTS, [account(name)])
    lms.execute(f"update {LINKS} set provider = ? where uid = ?", backend, name)
    command = ["usher_move_links", "--from", backend, "--to", "mitxpro-oauth2"]
    values = {"command": command, "table": LINKS, "error": error, "times": times}

    outcome = run_script(lms, FAIL_TO_WRITE + RUN_COMMAND + WRITE_AGAIN, **values)

    assert ('"moved": 1' if is_moved else "nothing was changed") in outcome
    provider = lms.value(f"select provider from {LINKS} where uid = ?", name)
    assert provider == ("mitxpro-oauth2" if is_moved else backend)


@pytest.mark.parametrize("error", [DUPLICATE, DEADLOCK])
@pytest.mark.parametrize(("times", "succeeds"), [(1, True), (9, False)])
def test_provisioning_is_repeated_and_then_gives_up(
    lms: Lms, tmp_path: Any, error: int, times: int, succeeds: bool
) -> None:
    """Two jobs may provision an LMS for the first time at the same time."""
    text = description(lms.application.description(name="other", backend="ol-oauth2"))
    del text["service_worker"]
    text["applications"][0] |= {"oauth_client_id": "other", "oauth_name": "other"}
    file = tmp_path / "description.json"
    file.write_text(json.dumps(text))
    command = ["usher_provision", "--file", str(file)]
    table = "usher_lms_connectedapplication"
    values = {"command": command, "table": table, "error": error, "times": times}

    try:
        outcome = run_script(lms, FAIL_TO_WRITE + RUN_COMMAND + WRITE_AGAIN, **values)

        assert ('"created"' if succeeds else "nothing was changed") in outcome
        rows = f"select name from {table} where name = 'other'"
        assert bool(lms.execute(rows)) == succeeds
    finally:
        lms.run(*command, "--remove", "--purge")
