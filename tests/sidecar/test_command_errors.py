"""Errors that end ``usher drift`` and ``usher reconcile`` early: one object with ``--json``, and
an exit code that is not 0."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.sidecar.conftest import Sides
from tests.sidecar.test_reconcile import only, stem, tokens
from tests.support.checkout import free_port
from usher.cli.main import main
from usher.sidecar import command as commands
from usher.sidecar.errors import RequestFailed
from usher.sidecar.opening import _timeout
from usher.sidecar.outcome import Outcome


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command without this machine's list of connections. Returns its exit code and the
    printed object."""

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        done = CliRunner().invoke(main, [*words, "--json"])
        return done.exit_code, json.loads(done.stdout)

    return run


@pytest.mark.parametrize("command", ["drift", "reconcile"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--application", "{folder}/nothing"], "neither a folder nor an http address"),
        (["--application", "{folder}"], "has no manage.py"),
        (["--application", "{folder}", "--manage", "false"], "neither MITx Online nor MIT xPro"),
        (["--application", "{folder}", "--edition", "mitxonline", "--manage", "/no/such"], "run"),
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
def test_errors_are_one_json_object(
    named: Any, command: str, arguments: list[str], words: str, tmp_path: Path
) -> None:
    (tmp_path / "latin.env").write_bytes(b"NAME=\xe4\n")
    code, told = named(command, *(each.format(folder=tmp_path) for each in arguments))
    assert code == 2
    assert words in told["error"]
    assert told["ok"] is False


def test_an_lms_that_does_not_answer_is_one_object(sides: Sides) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    for command in ("drift", "reconcile"):
        done = sides.usher(command, "--lms-url", nowhere, "--json")
        assert done.exit_code == 2
        told = json.loads(done.stdout)
        assert f"Nothing answers at {nowhere}" in told["error"]
        assert told["ok"] is False


@pytest.mark.parametrize("address", ["ftp://lms", "not an address", "http://u:secret@lms"])
def test_an_address_that_is_none_is_one_object(address: str, sides: Sides) -> None:
    done = sides.usher("drift", "--lms-url", address, "--json")
    assert done.exit_code == 2
    assert "The LMS's address in --lms-url can't be used" in json.loads(done.stdout)["error"]
    assert "secret" not in done.output


@pytest.mark.parametrize("value", ["abc", "", "0", "-1", "inf", "nan", None, []])
def test_a_time_limit_that_is_none_is_the_default(value: Any) -> None:
    assert _timeout(value) == 60.0


def test_a_fault_of_its_own_is_not_taken_for_a_difference(sides: Sides, monkeypatch: Any) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("something")

    monkeypatch.setattr(commands, "drift", fail)
    done = sides.usher("drift", "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"] == "KeyError: 'something'"
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--user", "nobody@example.org"], "no user with the username or e-mail address"),
        (["--run", "course-v1:no+such+one"], "no course run 'course-v1:no+such+one'"),
        (["--run", "MITx/6.1x"], "A key is course-v1:"),
    ],
)
def test_a_misspelt_user_or_run_is_not_nothing_to_do(
    arguments: list[str], words: str, sides: Sides
) -> None:
    done = sides.usher("reconcile", *arguments, "--json")
    assert done.exit_code == 2
    assert words in json.loads(done.stdout)["error"]


def test_a_user_without_work_is_reported_with_the_reason(sides: Sides) -> None:
    inactive, new = stem(sides, "inactive"), stem(sides, "fresh")
    sides.people(inactive, new)
    sides.shape.run(
        "from django.utils import timezone\n"
        "from users.models import User\n"
        f"User.objects.filter(username={inactive!r}).update(is_active=False)\n"
        f"User.objects.filter(username={new!r}).update(created_on=timezone.now())\nresult = None"
    )
    for name, words in ((inactive, "inactive in"), (new, "itself does it in the first 5 minutes")):
        done = sides.usher("reconcile", "--user", name, "--json")
        assert done.exit_code == 0
        (reason,) = json.loads(done.stdout)["reasons"]
        assert words in reason["reason"]


@only("mitxonline")
def test_a_user_given_up_by_the_application_is_reported_with_the_reason(sides: Sides) -> None:
    name = stem(sides, "gaveup")
    sides.people(name)
    sides.shape.run(
        "from openedx.models import OpenEdxUser\nfrom users.models import User\n"
        f"OpenEdxUser.objects.create(user=User.objects.get(username={name!r}), edx_username='x-y',"
        " has_sync_error=True, sync_error_data={'email': [{'user_message': 'It is taken'}]})\n"
        "result = None"
    )
    (reason,) = sides.json("reconcile", "--user", name)["reasons"]
    assert "gave the account up: It is taken" in reason["reason"]


@only("mitxonline")
def test_work_done_before_the_error_is_in_the_object(sides: Sides, monkeypatch: Any) -> None:
    from usher.client.errors import Unreachable
    from usher.sidecar import reconcile

    def fail(*_: Any, **__: Any) -> None:
        raise Unreachable("The LMS went away.")

    name = stem(sides, "beforehand")
    sides.people(name)
    monkeypatch.setattr(reconcile, "reconcile_enrollments", fail)
    done = sides.usher("reconcile", "--json")
    assert done.exit_code == 2
    told = json.loads(done.stdout)
    assert told["kinds"]["account"]["done"] == 1
    assert "The LMS went away" in told["error"]
    assert len(tokens(sides, name)) == 1


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("OperationalError: attempt to write a readonly database", "can't be written to"),
        ("InternalError: cannot execute UPDATE in a read-only transaction", "Use the primary"),
        ("OperationalError: database or disk is full", "free some space"),
        ("OperationalError: could not extend file: No space left on device", "free some space"),
        ("OperationalError: database is locked", "Another process"),
        ("OperationalError: no such column: users_user.name", "migrate"),
        ("OperationalError: connection refused", "start it"),
    ],
)
def test_a_database_s_error_says_what_to_do(message: str, advice: str) -> None:
    assert advice in str(RequestFailed("MIT xPro", "failed", message))


def test_an_interrupted_run_is_not_nothing_to_do(capsys: Any) -> None:
    """The batch in progress has no counts yet."""
    commands._Progress(as_json=False).interrupted(Outcome())
    said = capsys.readouterr().out
    assert "nothing to do" not in said
    assert "stopped" in said
    commands._Progress(as_json=True).interrupted(Outcome())
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["error"]) == (False, "interrupted")
