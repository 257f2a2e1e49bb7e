"""How ``usher connect`` reports that it ended early."""

import errno
import io
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import httpx
import pytest

from tests.support.checkout import free_port
from usher.connect import checks
from usher.connect.application.target import Addresses, TargetApplication
from usher.connect.command import _exit_code_of_errors
from usher.connect.errors import Refused
from usher.connect.manual import Manual
from usher.connect.view import View
from usher.contract import exits
from usher.contract.envfile import FileNotWritten


class Terminal(io.StringIO):
    """Standard error that counts as a terminal, and keeps what is printed."""

    def isatty(self) -> bool:
        return True


def end_command(
    error: BaseException, view: View, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, str]:
    """Ends a command with ``error``. Returns its exit code and the text that a terminal shows."""
    screen = Terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stderr", screen)
    with pytest.raises(SystemExit) as exit_, _exit_code_of_errors(view):
        raise error
    return exit_.value.code, screen.getvalue()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_the_message_of_an_interrupted_command_says_what_was_changed_and_begins_on_a_new_line(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
):
    view = View(as_json=False)
    code, screen = end_command(error, view, monkeypatch)
    assert (code, screen) == (exits.INTERRUPTED, "\ninterrupted; nothing was changed\n")
    # Connect has created the .env before the interruption.
    view.print_preparation(".env from .env.example", dry_run=False)
    _, screen = end_command(error, view, monkeypatch)
    assert screen.startswith("\ninterrupted; completed steps are kept.")


@pytest.mark.parametrize(
    ("dry_run", "message"), [(True, "Nothing was changed."), (False, "Nothing else was changed.")]
)
def test_a_refusal_says_whether_something_was_changed(
    dry_run: bool, message: str, monkeypatch: pytest.MonkeyPatch
):
    view = View(as_json=False)
    view.print_preparation(".env from .env.example", dry_run=dry_run)
    code, screen = end_command(Refused("no database"), view, monkeypatch)
    assert (code, screen.splitlines()) == (exits.NOT_RUN, ["no database", message])


def test_an_error_about_a_file_of_usher_says_whether_something_was_changed(
    monkeypatch: pytest.MonkeyPatch,
):
    view = View(as_json=False)
    error = FileNotWritten(Path("/state/usher.json"), OSError(errno.ENOSPC, "No space left"))
    code, screen = end_command(error, view, monkeypatch)
    assert (code, screen.splitlines()) == (
        exits.NOT_RUN,
        [
            "/state/usher.json can't be written: No space left; free space in /state",
            "Nothing was changed; run the command again afterwards.",
        ],
    )
    view.print_preparation(".env from .env.example", dry_run=False)
    code, screen = end_command(error, view, monkeypatch)
    assert code == exits.FAILED
    assert "The earlier steps are done; run the command again afterwards." in screen


def test_the_command_to_run_next_names_the_program_if_usher_is_not_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    program = tmp_path / "a folder with a long name" / "bin" / "usher"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr("sys.executable", str(program.parent / "python"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("NO_COLOR", "1")
    addresses = SimpleNamespace(lms_url="http://lms.example")
    View(as_json=False).print_connected([], cast(Addresses, addresses), Manual())
    # On a line of its own, not broken in the middle.
    assert capsys.readouterr().out.splitlines()[-1].strip() == (
        f"$ {shlex.quote(str(program))} doctor --journey"
    )


@pytest.mark.parametrize(
    ("compose", "subject"),
    [
        (
            True,
            "its API gateway (in its checkout: "
            "`docker compose --profile keycloak --profile apisix up -d`)",
        ),
        (False, "an API gateway that forwards to http://own.example"),
    ],
    ids=["containers", "no_containers"],
)
def test_the_fix_for_a_stopped_gateway_says_how_to_start_one(compose: bool, subject: str):
    gateway_url = f"http://127.0.0.1:{free_port()}"
    target = SimpleNamespace(
        own_url="http://own.example",
        url=gateway_url,
        gateway_url=gateway_url,
        checkout=SimpleNamespace(compose=compose),
    )
    own_server = httpx.MockTransport(lambda request: httpx.Response(200))
    with httpx.Client(trust_env=False, mounts={"http://own.example": own_server}) as client:
        check, _ = checks._request_application(client, cast(TargetApplication, target))
    assert check.fix == f"start {subject}"


def test_the_settings_of_an_application_that_was_not_asked_again_are_not_compared():
    application = SimpleNamespace(backend="ol-oauth2")
    target = SimpleNamespace(
        checkout=SimpleNamespace(manage=("python", "manage.py"), env_file=Path(".env")),
        # From before connect wrote the .env.
        facts={"settings": {"OPENEDX_API_CLIENT_ID": "earlier"}},
        env_values=lambda *_: {"OPENEDX_API_CLIENT_ID": "written"},
    )
    addresses = SimpleNamespace(lms_url=f"http://127.0.0.1:{free_port()}")
    with httpx.Client(trust_env=False) as client:
        arguments: list[Any] = [client, target, application, None, addresses]
        probes = checks._probes_inside(*arguments)
        results = {check.id: check for check in checks._results(probes, reason_to_skip="")}
    assert results["settings-in-force"].seen == results["redirect-uri"].seen
    assert "Connection refused" in results["redirect-uri"].seen
