"""Options, environment variables and files that can't be used end a command with exit code 2 and
one sentence, without a traceback."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.checkout import free_port
from usher.cli.main import main
from usher.contract import exits

#: An address for the embedded LMS, whose own port may be in use on this machine.
FREE_ADDRESS = f"http://127.0.0.1:{free_port()}"
#: Commands, each with the options that it needs besides ``--application``.
COMMANDS = {
    "connect": ("--lms", "embedded", "--lms-url", FREE_ADDRESS, "--dry-run", "--yes"),
    "disconnect": ("--lms", "embedded", "--dry-run", "--yes"),
    "doctor": (),
    "drift": (),
    "reconcile": (),
}
#: A name for a home folder that no machine has.
UNKNOWN_HOME = "~no-such-user-of-this-machine/shop"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that is recognised as MITx Online. Its manage.py fails."""
    monkeypatch.setenv("USHER_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "shop"
    mark = folder / "courses/management/commands/sync_courserun.py"
    mark.parent.mkdir(parents=True)
    mark.touch()
    (folder / "app.json").write_text("MITX_ONLINE_BASE_URL")
    (folder / "manage.py").write_text("raise SystemExit('does not start')")
    return folder


def usher(command: str, application: Path | str, *options: str) -> Result:
    argv = [command, "--application", str(application), *COMMANDS[command], *options]
    return CliRunner().invoke(main, argv)


def assert_not_run(result: Result, reason: str) -> None:
    assert result.exit_code == exits.NOT_RUN, (result.output, result.exception)
    assert "Traceback" not in result.output
    assert reason in " ".join(result.stderr.split())


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (UNKNOWN_HOME, "~ names no user's folder"),
        ("http://[::1", "write an address such as"),
        ("x" * 300, "File name too long"),
    ],
)
def test_an_application_that_cannot_be_read_is_refused_with_the_reason(
    checkout: Path, command, target, reason
):
    assert_not_run(usher(command, target), reason)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_with_an_open_quote_is_refused(checkout: Path, command):
    assert_not_run(
        usher(command, checkout, "--manage", "python 'manage.py"), "no closing quotation"
    )


def test_a_wrong_option_is_a_json_object_with_json(checkout: Path):
    result = usher("drift", checkout, "--manage", "python 'manage.py", "--json")
    assert json.loads(result.stdout)["ok"] is False


@pytest.mark.parametrize("option", ["--env-file", "--lms-home"])
def test_a_path_with_an_unknown_home_folder_is_refused(checkout: Path, option):
    assert_not_run(usher("connect", checkout, option, UNKNOWN_HOME), "~ names no user's folder")


@pytest.mark.parametrize("command", ["connect", "drift"])
def test_the_error_of_a_program_that_cannot_be_started_is_shown(checkout: Path, command):
    script = checkout / "manage.sh"
    script.write_text("exec ./manage.py\n")  # without a first line that names the interpreter
    script.chmod(0o755)
    assert_not_run(usher(command, checkout, "--manage", str(script)), "Exec format error")
    (checkout / ".env").write_text(f"LARGE={'x' * 200_000}\n")
    manage = f"{sys.executable} manage.py"
    assert_not_run(usher(command, checkout, "--manage", manage), "Argument list too long")


@pytest.mark.parametrize("command", ["status", "disconnect", "doctor"])
def test_an_unknown_folder_for_usher_s_own_files_is_refused(
    monkeypatch: pytest.MonkeyPatch, command
):
    monkeypatch.setenv("USHER_STATE_HOME", UNKNOWN_HOME)
    result = CliRunner().invoke(main, [command])
    assert_not_run(result, "set HOME, or USHER_STATE_HOME")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"wishes": []}', '{"other": 1}'])
@pytest.mark.parametrize("command", ["connect", "disconnect"])
def test_a_damaged_file_of_an_earlier_connection_is_named(checkout: Path, command, content):
    file = checkout.parent / "state/0123/subject.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    result = usher(command, checkout)
    assert_not_run(result, "subject.json")


def test_saved_options_of_a_newer_version_are_ignored(checkout: Path):
    file = checkout.parent / "state/0123/subject.json"
    file.parent.mkdir(parents=True)
    options = {"target": str(checkout), "manage": f"{sys.executable} manage.py", "new": "x"}
    file.write_text(json.dumps({"wishes": options, "root": "", "lms": "embedded"}))
    # The saved options were read: the command goes on to manage.py, which fails.
    assert_not_run(usher("connect", checkout), "does not start")
