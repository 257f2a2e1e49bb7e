"""Errors that end ``usher drift`` and ``usher reconcile`` early: one object with ``--json``, and
an exit code that is not 0."""

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.sidecar.conftest import System, name_for
from tests.sidecar.test_reconcile import only_for, reconcile_command, tokens_of, wait_until
from tests.support.checkout import free_port
from tests.support.faults import LOST_ANSWER, faulty_proxy
from usher.cli.main import main
from usher.sidecar import command as commands
from usher.sidecar.errors import RequestFailed
from usher.sidecar.output import ReconcileOutput
from usher.sidecar.session import _timeout
from usher.sidecar.summary import Summary


def usher_as_json(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Runs ``usher`` with ``--json``. Returns the exit code and the printed object."""
    result = CliRunner().invoke(main, [*arguments, "--json"])
    return result.exit_code, json.loads(result.stdout)


@pytest.mark.parametrize("command", ["drift", "reconcile"])
def test_without_a_connection_the_error_names_the_commands_for_each_application(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USHER_STATE_HOME", str(tmp_path))  # has no list of connections
    code, output = usher_as_json(command)
    assert code == 2
    assert "--application ~/mitxonline" in output["error"]
    assert f"python manage.py {command}" in output["error"]


@pytest.mark.parametrize("command", ["drift", "reconcile"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--application", "{folder}/nothing"], "neither a folder nor an http address"),
        (["--application", "{folder}"], "has no manage.py"),
        # ``false``, in place of manage.py, is a program that fails immediately.
        (["--application", "{folder}", "--manage", "false"], "neither MITx Online nor MIT xPro"),
        (
            ["--application", "{folder}", "--edition", "mitxonline", "--manage", "/no/such"],
            "can't be run",
        ),
        (["--application", "{folder}", "--edition", "mitxpro", "--manage", "false"], "ended with"),
        (["--application", "{folder}", "--env-file", "{folder}/no.env"], "no.env does not exist"),
        (
            [
                *("--application", "{folder}", "--edition", "mitxpro", "--manage", "false"),
                *("--env-file", "{folder}/latin.env"),
            ],
            "save the file as UTF-8",
        ),
        (["--kind", "seat"], "'seat' is not one of"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_errors_are_printed_as_one_json_object(
    command: str, arguments: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "latin.env").write_bytes(b"NAME=\xe4\n")
    options = [argument.format(folder=tmp_path) for argument in arguments]
    code, output = usher_as_json(command, *options)
    assert code == 2
    assert message in output["error"]
    assert output["ok"] is False


def test_an_lms_that_does_not_answer_is_reported_as_one_json_object(system: System) -> None:
    unused_address = f"http://127.0.0.1:{free_port()}"
    for command in ("drift", "reconcile"):
        result = system.usher(command, "--lms-url", unused_address, "--json")
        assert result.exit_code == 2
        output = json.loads(result.stdout)
        assert f"Nothing answers at {unused_address}" in output["error"]
        assert output["ok"] is False


@pytest.mark.parametrize("address", ["ftp://lms", "not an address", "http://u:secret@lms"])
def test_an_invalid_address_is_reported_as_one_json_object(address: str, system: System) -> None:
    result = system.usher("drift", "--lms-url", address, "--json")
    assert result.exit_code == 2
    assert "The LMS's address in --lms-url can't be used" in json.loads(result.stdout)["error"]
    assert "secret" not in result.output


@pytest.mark.parametrize("value", ["abc", "", "0", "-1", "inf", "nan", None, []])
def test_an_invalid_time_limit_is_replaced_by_the_default(value: Any) -> None:
    assert _timeout(value) == 60.0


def test_a_bug_of_the_sidecar_ends_the_command_with_exit_code_2(
    system: System, monkeypatch: Any
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("something")

    monkeypatch.setattr(commands, "drift", fail)
    result = system.usher("drift", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == "KeyError: 'something'"
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--user", "nobody@example.org"], "no user with the username or e-mail address"),
        (["--run", "course-v1:no+such+one"], "no course run 'course-v1:no+such+one'"),
        (["--run", "MITx/6.1x"], "A key is course-v1:"),
    ],
)
def test_a_misspelt_user_or_run_is_an_error(
    arguments: list[str], message: str, system: System
) -> None:
    result = system.usher("reconcile", *arguments, "--json")
    assert result.exit_code == 2
    assert message in json.loads(result.stdout)["error"]


@pytest.mark.parametrize("option", ["--user", "--run"])
def test_an_empty_user_or_run_is_refused_and_does_not_mean_everything(option: str) -> None:
    """A script passes an empty value if its variable is not set."""
    for value in ("", " "):
        result = CliRunner().invoke(main, ["reconcile", "--application", "x", option, value])
        assert result.exit_code == 2
        assert "it is empty" in result.output


@pytest.mark.parametrize("option", ["--user", "--run"])
def test_a_user_or_run_that_is_not_utf_8_is_refused(option: str) -> None:
    """Python keeps each byte that is not UTF-8 as half of a surrogate pair."""
    code, output = usher_as_json("reconcile", "--application", "x", option, "\udcff")
    assert code == 2
    assert "it is not UTF-8" in output["error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metrics", "a" * 64 + ".example:0"], "Name an address of this machine."),
        (["--metrics", "no host:0"], "Name an address of this machine."),
        (["--metrics", "192.0.2.1:0"], "Name an address of this machine."),
        (["--metrics", "9" * 5000], "is not [HOST:]PORT"),
        (["--console", "--console-host", "192.0.2.1"], "Name an address of this machine."),
        (["--console", "--console-host", ""], "leave the option out for 127.0.0.1"),
        (["--console", "--console-host", " "], "leave the option out for 127.0.0.1"),
    ],
)
def test_an_address_that_can_not_be_listened_on_is_an_error(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    code, output = usher_as_json("reconcile", "--application", str(tmp_path), "--watch", *arguments)
    assert code == 2
    assert message in output["error"]


def errors_with_full_disk(command: list[str]) -> str:
    """Runs a command whose output can't be written, and which must end with 2. Returns its error
    output, in one line."""
    with Path("/dev/full").open("w") as full_disk:
        result = subprocess.run(
            command, stdout=full_disk, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())


@only_for("mitxonline")
@pytest.mark.parametrize("options", [[], ["--json"], ["--json", "--dry-run"]])
def test_output_that_can_not_be_written_is_an_error(options: list[str], system: System) -> None:
    errors = errors_with_full_disk(reconcile_command(system, *options))
    assert "output can't be written: No space left on device" in errors


def test_an_error_is_printed_although_the_output_can_not_be_written(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "usher.cli.main", "reconcile"]
    errors = errors_with_full_disk([*command, "--application", str(tmp_path), "--json"])
    assert "has no manage.py" in errors


@only_for("mitxonline")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_watching_continues_if_its_output_can_not_be_written(
    options: list[str], system: System
) -> None:
    name = name_for(system, "unlogged" + "".join(options).strip("-"))
    with Path("/dev/full").open("w") as full_disk:
        watcher = subprocess.Popen(
            reconcile_command(system, "--watch", *options),
            stdout=full_disk,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        system.create_users(name)
        wait_until(lambda: watcher.poll() is not None or len(tokens_of(system, name)) == 1)
        # The first line could not be written before; another pass prints another line.
        system.create_users(name + "2")
        wait_until(lambda: watcher.poll() is not None or len(tokens_of(system, name + "2")) == 1)
        watcher.send_signal(signal.SIGTERM)
        _, errors = watcher.communicate(timeout=120)
    finally:
        watcher.kill()
        watcher.communicate()
    assert " ".join(errors.split()).count("Watching continues, and lines are lost.") == 1
    assert "trying again" not in errors
    assert "Traceback" not in errors
    assert len(tokens_of(system, name + "2")) == 1


def test_reconcile_gives_the_reason_if_a_user_has_no_due_rows(system: System) -> None:
    inactive, new = name_for(system, "inactive"), name_for(system, "new")
    system.create_users(inactive, new)
    system.application.run(
        "from django.utils import timezone\n"
        "from users.models import User\n"
        f"User.objects.filter(username={inactive!r}).update(is_active=False)\n"
        f"User.objects.filter(username={new!r}).update(created_on=timezone.now())\nresult = None"
    )
    for name, message in (
        (inactive, "inactive in"),
        (new, "creates the account itself in the first 5 minutes"),
    ):
        result = system.usher("reconcile", "--user", name, "--json")
        assert result.exit_code == 0
        (reason,) = json.loads(result.stdout)["reasons"]
        assert message in reason["reason"]


def test_new_rows_that_reconcile_leaves_to_the_application_are_counted(
    system: System,
) -> None:
    """The count explains why reconcile skips rows that drift lists."""
    name = name_for(system, "newcomer")
    other_new_rows = system.json("reconcile")["new"].get("account", 0)
    system.create_users(name)

    def set_creation_time(expression: str) -> None:
        system.application.run(
            "from datetime import timedelta\nfrom django.utils import timezone\n"
            "from users.models import User\n"
            f"User.objects.filter(username={name!r}).update(created_on={expression})\nresult = None"
        )

    set_creation_time("timezone.now()")
    summary = system.json("reconcile")
    assert (summary["ok"], summary["new"]["account"]) == (True, other_new_rows + 1)
    result = system.usher("reconcile")
    assert f"{other_new_rows + 1} new: the application handles" in result.output
    assert "nothing to do" not in result.output
    set_creation_time("timezone.now() - timedelta(days=1)")
    summary = system.json("reconcile", "--user", name)
    assert (summary["kinds"]["account"]["done"], summary["new"]) == (1, {})


@only_for("mitxonline")
def test_a_user_given_up_by_the_application_is_reported_with_the_reason(system: System) -> None:
    name = name_for(system, "gaveup")
    system.create_users(name)
    system.application.run(
        "from openedx.models import OpenEdxUser\nfrom users.models import User\n"
        f"OpenEdxUser.objects.create(user=User.objects.get(username={name!r}), edx_username='x-y',"
        " has_sync_error=True, sync_error_data={'email': [{'user_message': 'It is taken'}]})\n"
        "result = None"
    )
    (reason,) = system.json("reconcile", "--user", name)["reasons"]
    assert "gave the account up: It is taken" in reason["reason"]


@only_for("mitxonline")
def test_results_before_an_error_are_in_the_json_object(system: System, monkeypatch: Any) -> None:
    """Accounts are reconciled before enrollments."""
    from usher.client.errors import Unreachable
    from usher.sidecar import reconcile

    def fail(*_: Any, **__: Any) -> None:
        raise Unreachable("The LMS went away.")

    name = name_for(system, "beforehand")
    system.create_users(name)
    monkeypatch.setattr(reconcile, "reconcile_enrollments", fail)
    result = system.usher("reconcile", "--json")
    assert result.exit_code == 2
    output = json.loads(result.stdout)
    assert output["kinds"]["account"]["done"] == 1
    assert "The LMS went away" in output["error"]
    assert len(tokens_of(system, name)) == 1


@only_for("mitxonline")
def test_failed_rows_are_reported_with_what_to_do(system: System) -> None:
    name = name_for(system, "lostanswer")
    system.create_users(name)
    with faulty_proxy(system.lms.url) as proxy:
        proxy.break_all(LOST_ANSWER, path="/usher/api/v1/accounts/")
        result = system.usher("reconcile", "--kind", "account", "--lms-url", proxy.url)
    assert result.exit_code == 1
    assert "1 failed" in result.output
    assert "still due: run this again" in " ".join(result.output.split())
    result = system.usher("reconcile", "--kind", "account")
    assert "1 done" in result.output
    assert "run this again" not in result.output


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("OperationalError: attempt to write a readonly database", "can't be written to"),
        ("InternalError: cannot execute UPDATE in a read-only transaction", "Use the primary"),
        ("OperationalError: database or disk is full", "free some space"),
        ("OperationalError: could not extend file: No space left on device", "free some space"),
        ("OperationalError: disk I/O error", "full or damaged"),
        ("OperationalError: database is locked", "Another process"),
        ("DatabaseError: file is not a database", "restore it from a backup"),
        ("DatabaseError: database disk image is malformed", "restore it from a backup"),
        ("InternalError: invalid page in block 3 of relation base/1", "restore it from a backup"),
        ("OperationalError: unable to open database file", "check its path"),
        ("OperationalError: canceling statement due to lock timeout", "keeps its database locked"),
        ("OperationalError: deadlock detected", "keeps its database locked"),
        ("OperationalError: canceling statement due to statement timeout", "too slow"),
        ("OperationalError: FATAL:  sorry, too many clients already", "no connection free"),
        ('OperationalError: FATAL:  too many connections for role "app"', "no connection free"),
        ("OperationalError: FATAL:  password authentication failed", "user and password"),
        ('OperationalError: FATAL:  database "app" does not exist', "user and password"),
        ('OperationalError: failed to resolve host "db"', "address, user"),
        ("OperationalError: FATAL:  the database system is starting up", "again in a minute"),
        ("ProgrammingError: permission denied for table users_user", "lacks this permission"),
        ("OperationalError: no such column: users_user.name", "migrate"),
        ("OperationalError: connection refused", "start it"),
    ],
)
def test_a_database_s_error_says_what_to_do(message: str, advice: str) -> None:
    assert advice in str(RequestFailed("MIT xPro", "failed", message))


def test_the_message_of_an_interruption_begins_on_a_new_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Terminals show ``^C`` in the current line."""
    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", screen)
    with pytest.raises(SystemExit), commands._reporting_errors(ReconcileOutput(as_json=False)):
        raise KeyboardInterrupt
    assert screen.getvalue() == "\nstopped\n"


def test_an_interrupted_command_without_counts_is_reported_as_stopped(capsys: Any) -> None:
    ReconcileOutput(as_json=False).print_interrupted(Summary())
    output = capsys.readouterr().out
    assert "nothing to do" not in output
    assert "stopped" in output
    ReconcileOutput(as_json=True).print_interrupted(Summary())
    summary = json.loads(capsys.readouterr().out)
    assert (summary["ok"], summary["error"]) == (False, "interrupted")
