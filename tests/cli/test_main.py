"""The ``usher`` command: its help, its exit codes, and its messages if it can't run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from usher.cli.main import COMMANDS, main


def test_help_lists_every_command_and_imports_no_package_but_usher_cli() -> None:
    program = (
        "import sys; from usher.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not [m for m in sys.modules if m.startswith('usher.') and m.split('.')[1] != 'cli']"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    for name in COMMANDS:
        assert name in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_and_has_help(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_the_message_about_a_missing_package_names_the_extra_to_install() -> None:
    # None: importing httpx fails, as if it were not installed.
    program = (
        "import sys; sys.modules['httpx'] = None\n"
        "from usher.cli.main import main; main(['dev', '--help'])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 2
    assert "pip install 'openedx-usher[embedded]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_message_of_usher_without_click_names_the_extra_to_install() -> None:
    program = "import sys; sys.modules['click'] = None\nfrom usher.cli.main import main"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 2
    assert "pip install 'openedx-usher[shell]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(main, ["conect"])
    assert result.exit_code == 2
    assert "No such command 'conect'. Did you mean 'connect'?" in result.output
    result = CliRunner().invoke(main, ["xyz"])
    assert result.output.endswith("Error: No such command 'xyz'.\n")


def test_the_end_of_an_option_suggests_the_option() -> None:
    result = CliRunner().invoke(main, ["demo", "--port", "1"])
    assert result.exit_code == 2
    assert "'--application-port'" in result.output
    assert "'--lms-port'" in result.output


@pytest.mark.parametrize("arguments", [["dev"], ["doctor"], ["why", "ann@learners.example"]])
def test_in_a_folder_below_a_project_the_message_names_the_project(
    arguments: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "shop" / "static"
    folder.mkdir(parents=True)
    (tmp_path / "manage.py").write_text("")
    result = run_in_folder(folder, *arguments)
    assert result.returncode == 2
    message = " ".join((result.stdout + result.stderr).split())
    assert f"Run the command in {tmp_path}." in message
    assert str(folder) in message


#: Command → arguments with which the command fails in an empty folder.
FAILING_ARGUMENTS = {
    "demo": ["--provision", "--home", "."],
    "dev": ["."],
    "why": ["ann@learners.example"],
    "connect": ["--application", "/no/such/checkout"],
    "disconnect": ["--application", "/no/such/checkout"],
    "status": [],
    "doctor": [],
    "drift": ["--application", "/no/such/checkout"],
    "reconcile": ["--application", "/no/such/checkout"],
    "conformance": ["--lms", "http://127.0.0.1:9", "--token-file", "token"],
}


def run_in_folder(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs ``usher`` with these arguments in the folder, which has a file ``token``. For
    ``status``, the file of connections is not valid JSON."""
    (folder / "token").write_text("t")
    if "status" in arguments:
        settings = folder / ".config/usher"
        settings.mkdir(parents=True)
        (settings / "connections.json").write_text("{")
    return subprocess.run(
        [sys.executable, "-m", "usher.cli.main", *arguments],
        cwd=folder,
        env={"PATH": f"/usr/bin:/bin:{Path(sys.executable).parent}", "HOME": str(folder)},
        capture_output=True,
        text=True,
    )


def is_wrapped(text: str) -> bool:
    """Whether every line has at most 80 columns, or is longer because of an unbroken path or
    address: a word of more than 40 columns."""
    long_lines = [line for line in text.splitlines() if len(line) > 80]
    return all(max(map(len, line.split())) > 40 for line in long_lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_can_not_run_ends_with_exit_code_2(name: str, tmp_path: Path) -> None:
    result = run_in_folder(tmp_path, name, *FAILING_ARGUMENTS[name])
    assert result.returncode == 2, result.stderr
    assert result.stderr
    assert "Traceback" not in result.stderr
    assert is_wrapped(result.stderr), result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_option_is_named_and_ends_with_exit_code_2(name: str, tmp_path: Path) -> None:
    wrong_option = "--" + "no-such-option-of-this-command" * 2
    result = run_in_folder(tmp_path, name, *FAILING_ARGUMENTS[name], wrong_option)
    assert result.returncode == 2
    assert wrong_option in result.stderr
    assert (
        f"Try 'main.py {name} --help' for help." in result.stderr
        or f"usher {name}" in result.stderr
    )
    assert is_wrapped(result.stderr), result.stderr


def test_why_names_an_error_of_the_project_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text("import settings\n")
    (tmp_path / "settings.py").write_text("DEBUG = = True\n")
    command = [sys.executable, "-m", "usher.cli.main", "why", "ann", "--application", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "settings.py, line 1: SyntaxError" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_why_passes_an_empty_run_on_to_the_project_which_refuses_it(tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text("import sys; print(sys.argv[1:])\n")
    assert run_in_folder(tmp_path, "why", "ann").stdout == "['why', '--', 'ann']\n"
    assert run_in_folder(tmp_path, "why", "ann", "").stdout == "['why', '--', 'ann', '']\n"


def test_why_prints_commands_that_can_be_typed_outside_of_the_project(tmp_path: Path) -> None:
    project, here = tmp_path / "project", tmp_path / "here"
    for folder in (project, here):
        folder.mkdir()
    (project / "manage.py").write_text(
        "from usher.contract.terminal import wrap\n"
        "print(wrap('Afterwards: `python manage.py reconcile --recheck --user ann`', 0))\n"
    )
    command = f"{sys.executable} manage.py reconcile --recheck --user ann"
    result = run_in_folder(here, "why", "ann", "--application", str(project))
    printed_words = result.stdout.replace(" \\\n", " ").split()
    assert printed_words == ["Afterwards:", "$", *f"(cd {project} && {command})".split()]
    result = run_in_folder(project, "why", "ann")
    assert "$ python manage.py reconcile --recheck --user ann\n" in result.stdout


def test_why_explains_that_the_settings_lack_the_apps_of_usher(tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text(
        "import sys\nfrom django.conf import settings\n"
        "from django.core.management import execute_from_command_line\n"
        "settings.configure()\nexecute_from_command_line(sys.argv)\n"
    )
    result = run_in_folder(tmp_path, "why", "ann")
    assert result.returncode == 2
    error_text = " ".join(result.stderr.split())
    assert "its settings module lacks Usher's apps" in error_text
    assert "DJANGO_SETTINGS_MODULE" in error_text
    assert "$ usher reconcile --user LEARNER --dry-run" in error_text


def test_without_a_project_doctor_and_why_say_how_to_name_one(tmp_path: Path) -> None:
    result = run_in_folder(tmp_path, "doctor")
    assert "$ usher doctor --application FOLDER" in result.stderr
    assert "run `usher dev` or `usher connect`" in " ".join(result.stderr.split())
    result = run_in_folder(tmp_path, "why", "ann")
    assert result.returncode == 2
    assert "$ usher why ann --application FOLDER" in result.stderr
    assert "--lms" not in result.stderr


@pytest.mark.parametrize("arguments", [("doctor",), ("why", "ann")], ids=["doctor", "why"])
def test_without_a_project_the_error_is_a_json_object_if_json_is_wanted(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    result = run_in_folder(tmp_path, *arguments, "--json")
    assert result.returncode == 2
    data = json.loads(result.stdout)
    assert data["ok"] is False
    assert "--application FOLDER" in data["error"]


def test_doctor_refuses_an_address_that_is_none_and_a_folder_without_a_project(
    tmp_path: Path,
) -> None:
    result = run_in_folder(tmp_path, "doctor", "--lms", "lms.example")
    assert result.returncode == 2
    assert "write an address such as http://example.org:8000" in " ".join(result.stderr.split())
    result = run_in_folder(tmp_path, "doctor", "--application", ".")
    assert result.returncode == 2
    assert "has neither a manage.py nor a .env" in " ".join(result.stderr.split())


#: Linux has this file; every write to it fails, as on a full disk.
FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("arguments", [["status"], ["doctor", "--list"]], ids=" ".join)
def test_a_full_disk_behind_the_output_is_an_error_without_traceback(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "usher.cli.main", *arguments]
    with FULL.open("w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert result.stderr == "Error: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\n", "is empty"),
        (b"a-token\nand-more", "has more than one word"),
        ("schlüssel".encode(), "has more than one word, or characters that no token has"),
        (b"\xff\xfe", "can't be read as text"),
    ],
)
@pytest.mark.parametrize("command", ["doctor", "conformance"])
def test_a_token_file_without_a_token_is_refused_and_its_content_is_not_shown(
    tmp_path: Path, command: str, content: bytes, reason: str
) -> None:
    (tmp_path / "secret").write_bytes(content)
    options = ("--lms", "http://127.0.0.1:1", "--token-file", "secret")
    result = run_in_folder(tmp_path, command, *options)
    assert result.returncode == 2
    assert reason in " ".join(result.stderr.split())
    assert "a-token" not in result.stdout + result.stderr


def test_why_says_that_the_program_that_should_run_manage_py_failed(tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text(
        "import sys\nsys.stderr.write('unknown shorthand flag: T')\nsys.exit(125)\n"
    )
    result = run_in_folder(tmp_path, "why", "ann", "--json")
    assert result.returncode == 2
    assert "failed (125): unknown shorthand flag: T" in json.loads(result.stdout)["error"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_a_terminal_of_80_columns(name: str) -> None:
    help_text = CliRunner().invoke(main, [name, "--help"]).output
    assert [line for line in help_text.splitlines() if len(line) > 80] == []


def test_without_a_connection_and_tutor_there_is_nothing_to_disconnect(tmp_path: Path) -> None:
    result = run_in_folder(tmp_path, "disconnect")
    assert result.stdout == "Nothing to do: no connection was made on this machine.\n"
    assert result.returncode == 0
    result = run_in_folder(tmp_path, "disconnect", "--application", ".")
    assert " ".join(result.stdout.split()) == (
        "Nothing to do: no connection of this application was made on this machine."
    )
    assert result.returncode == 0


@pytest.mark.parametrize("command", ["connect", "disconnect"])
def test_a_folder_that_does_not_exist_is_named_before_tutor(command: str, tmp_path: Path) -> None:
    result = run_in_folder(tmp_path, command, "--application", "no-such-folder")
    assert result.stderr.startswith("no-such-folder is neither a folder nor an http address")
    assert result.returncode == 2


def test_disconnect_refuses_a_tutor_that_is_not_a_program(tmp_path: Path) -> None:
    result = run_in_folder(tmp_path, "disconnect", "--tutor", "/no/tutor")
    assert "/no/tutor is not a program" in result.stderr
    assert result.returncode == 2


def test_an_interrupted_command_ends_with_exit_code_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("usher.cli.why.find_places", interrupt)
    result = CliRunner().invoke(main, ["why", "ann"])
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
