"""How doctor finds the application and the LMS, and which values it passes to their programs."""

import fcntl
import json
import os
import sys
from pathlib import Path

import pytest

from usher.contract import connections
from usher.contract.temporary_learners import is_temporary_learner, new_username
from usher.doctor.check import Status
from usher.doctor.checks.env import EnvFileIsUnambiguous
from usher.doctor.context import create_context
from usher.doctor.find import DoctorOptions, NotFoundError, connection_notice, find_places
from usher.doctor.fixes import CONNECT, LMS_LOGS, PROVISION, RESTART, adapt
from usher.doctor.runner import run

PRINT_SETTINGS = (
    "import os; print(os.environ['IN_ENV_FILE'], 'and', os.environ['EMPTY_IN_ENV_FILE'])"
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An application with a ``manage.py`` and a ``.env``; usher connect has made no connection."""
    monkeypatch.setenv("USHER_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("EMPTY_IN_ENV_FILE", "from the environment")
    (tmp_path / "manage.py").write_text("")
    (tmp_path / ".env").write_text("IN_ENV_FILE=from the file\nEMPTY_IN_ENV_FILE=\n")
    return tmp_path


def test_manage_py_outside_of_containers_gets_the_settings_of_the_env_file(checkout: Path):
    manage = find_places(DoctorOptions(application=str(checkout), manage=sys.executable)).manage
    assert manage is not None
    assert manage.output("-c", PRINT_SETTINGS) == "from the file and from the environment\n"
    assert "IN_ENV_FILE" not in manage.as_typed("shell")


def test_the_reference_application_gets_the_path_of_its_env_file_and_other_applications_do_not(
    checkout: Path,
):
    manage = find_places(DoctorOptions(application=str(checkout))).manage
    assert manage is not None
    assert "CAMPUS_ENV_FILE" not in manage.as_typed("check")
    (checkout / "campus").mkdir()
    (checkout / "campus/settings.py").touch()
    manage = find_places(DoctorOptions(application=str(checkout))).manage
    assert manage is not None
    assert f"CAMPUS_ENV_FILE={checkout / '.env'}" in manage.as_typed("check")


def test_manage_py_in_a_container_gets_no_settings_from_doctor(checkout: Path):
    command = "docker compose exec -T web ./manage.py"
    manage = find_places(DoctorOptions(application=str(checkout), manage=command)).manage
    assert manage is not None
    assert manage.env_file is None


@pytest.mark.parametrize(
    ("lines", "is_connected"),
    [
        ("SITE_BASE_URL=https://shop.example.org\n", False),
        ("OPENEDX_API_BASE_URL=http://localhost:1\n", True),
        ("OPENEDX_API_BASE_URL='unclosed\n", True),  # malformed: a check then names the line
        ("", False),  # no .env
    ],
)
def test_a_project_is_examined_only_if_its_env_has_settings_of_an_lms(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, lines: str, *, is_connected: bool
):
    if lines:
        (checkout / ".env").write_text(lines)
    else:
        (checkout / ".env").unlink()
    monkeypatch.setenv("PATH", "")  # no Tutor
    monkeypatch.chdir(checkout)
    if is_connected:
        assert find_places(DoctorOptions()).env_file == checkout / ".env"
    else:
        reason = "its .env has no OPENEDX_… settings" if lines else "it has no .env"
        with pytest.raises(NotFoundError, match=f"not connected to an LMS: {reason}, and"):
            find_places(DoctorOptions())


def test_only_a_generated_username_is_that_of_a_test_learner():
    assert is_temporary_learner(new_username("usher-test"))
    assert is_temporary_learner("doctor-547c5879")
    assert not any(map(is_temporary_learner, ("doctor-who", "usher-test-", "xdoctor-547c5879")))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project for which ``usher dev`` was run."""
    monkeypatch.setenv("USHER_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "shop"
    home = folder / ".usher" / "dev"
    (home / "lms").mkdir(parents=True)
    for path in (folder / "manage.py", home / "lms" / "manage.py", home / "lock"):
        path.touch()
    (home / "env").write_text(
        "export OPENEDX_BASE_REDIRECT_URL='http://127.0.0.1:18000'\n"
        "export LOGOUT_REDIRECT_URL=''\nexport SITE_BASE_URL=http://localhost:8000\n"
    )
    (home / "prepared.json").write_text(json.dumps({"project": str(folder)}))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("application_option", ["", ".", ".usher/dev"])
def test_an_lms_of_usher_dev_is_found(project: Path, application_option: str):
    chosen_places = find_places(DoctorOptions(application=application_option))
    assert chosen_places.dev_home == project / ".usher" / "dev"
    assert chosen_places.application_url == "http://localhost:8000"
    assert chosen_places.lms_url == "http://127.0.0.1:18000"
    assert chosen_places.manage and chosen_places.manage.folder == project
    assert (
        chosen_places.lms_manage
        and chosen_places.lms_manage.folder == project / ".usher" / "dev" / "lms"
    )


def test_a_moved_folder_of_usher_dev_leads_to_its_project(project: Path, tmp_path: Path):
    moved_home = (project / ".usher" / "dev").rename(tmp_path / "home")
    chosen_places = find_places(DoctorOptions(application=str(moved_home)))
    assert chosen_places.manage and chosen_places.manage.folder == project
    with create_context(chosen_places) as context:
        assert adapt(PROVISION, context) == f"usher dev --home {moved_home} --provision"


def test_the_env_file_names_the_lms_unless_usher_dev_is_running(project: Path):
    # This .env names no LMS.
    (project / ".env").write_text("SITE_BASE_URL=https://shop.example.org\n")
    assert find_places(DoctorOptions()).dev_home
    # The .env names an LMS, and `usher dev` is stopped.
    (project / ".env").write_text("OPENEDX_API_BASE_URL=http://localhost:1\n")
    assert find_places(DoctorOptions()).env_file == project / ".env"
    # `usher dev` is running: it holds the lock.
    with (project / ".usher" / "dev" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert find_places(DoctorOptions()).dev_home
        assert find_places(DoctorOptions(application=".")).dev_home


@pytest.mark.parametrize("application_option", ["", "."])
@pytest.mark.parametrize("line", ["SITE_BASE_URL=x", "OPENEDX_API_BASE_URL=http://localhost:1"])
def test_usher_dev_is_found_in_a_shell_that_has_its_settings(
    project: Path, monkeypatch: pytest.MonkeyPatch, application_option: str, line: str
):
    """The settings count even if ``usher dev`` is stopped and the project has a ``.env``."""
    (project / ".env").write_text(f"{line}\n")
    with (project / ".usher" / "dev" / "env").open("a") as file:
        file.write("export OPENEDX_API_BASE_URL=http://127.0.0.1:18000\n")
    monkeypatch.setenv("OPENEDX_API_BASE_URL", "http://127.0.0.1:18000")
    assert (
        find_places(DoctorOptions(application=application_option)).dev_home
        == project / ".usher" / "dev"
    )
    # The shell has the settings of another LMS.
    monkeypatch.setenv("OPENEDX_API_BASE_URL", "http://lms.example.org")
    assert find_places(DoctorOptions(application=application_option)).env_file == project / ".env"


def test_usher_dev_is_found_for_a_project_whose_env_file_names_no_lms(project: Path):
    (project / ".env").write_text("SITE_BASE_URL=https://shop.example.org\n")
    assert find_places(DoctorOptions(application=".")).dev_home == project / ".usher" / "dev"


def test_the_option_lms_replaces_the_lms_of_usher_dev(project: Path):
    chosen_places = find_places(DoctorOptions(application=".", lms_url="http://lms.example.org"))
    assert (chosen_places.dev_home, chosen_places.lms_url) == (None, "http://lms.example.org")


def test_fixes_name_the_commands_of_usher_dev(project: Path, monkeypatch: pytest.MonkeyPatch):
    with create_context(find_places(DoctorOptions())) as context:
        assert adapt(CONNECT, context) == "usher dev --provision"
        assert adapt(LMS_LOGS, context) == f"tail -n 100 {project}/.usher/dev/lms.log"
        assert adapt(RESTART, context) == "usher dev"
        with (project / ".usher" / "dev" / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert adapt(RESTART, context) == "stop `usher dev` with Ctrl-C and start it again"
        monkeypatch.chdir("/")
        assert adapt(CONNECT, context) == f"usher dev {project} --provision"


def test_titles_name_the_env_file_that_was_read(project: Path):
    with create_context(find_places(DoctorOptions())) as context:
        lines = {line.id: line for line in run(context, ["ENV-1", "ENV-2"]).lines}
    assert lines["ENV-2"].title == "Only its owner can read the .usher/dev/env"
    assert lines["ENV-2"].family == "The application's .usher/dev/env"
    # Now the project's own .env names the LMS.
    (project / ".env").write_text("OPENEDX_API_BASE_URL=x\n")
    with create_context(find_places(DoctorOptions())) as context:
        lines = {line.id: line for line in run(context, ["ENV-1", "ENV-2"]).lines}
    assert lines["ENV-2"].title == "Only its owner can read the .env"
    assert lines["ENV-2"].family == "The application's .env"


def test_env_1_names_an_env_file_that_does_not_exist(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENEDX_API_BASE_URL", "http://lms.example.org")
    with create_context(find_places(DoctorOptions(application="."))) as context:
        [line] = run(context, ["ENV-1"]).lines
    assert line.finding.seen == f"{project}/.env does not exist"


def test_env_1_accepts_quotes_in_the_file_of_usher_dev_only(project: Path):
    # ``project`` has written quotes into the file of ``usher dev``.
    with create_context(find_places(DoctorOptions())) as context:
        assert EnvFileIsUnambiguous().probe(context).status is Status.OK
    (project / ".env").write_text("OPENEDX_API_BASE_URL='http://lms.example.org'\n")
    with create_context(find_places(DoctorOptions())) as context:
        assert EnvFileIsUnambiguous().probe(context).status is Status.WARNING


def test_the_error_for_a_project_without_an_lms_names_usher_dev_and_usher_connect(project: Path):
    (project / ".usher" / "dev" / "prepared.json").unlink()
    with pytest.raises(NotFoundError, match=r"(?s)\$ usher dev\n.*\$ usher connect"):
        find_places(DoctorOptions())


def test_the_notice_names_the_connection_that_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USHER_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)

    def connect(name: str) -> str:
        """Remembers a connection of an application, as connect does. Returns the folder."""
        folder = str(tmp_path / name)
        connections.remember(
            connections.Connection(
                name=name,
                application=folder,
                lms_url="http://lms",
                title=name.title(),
                lms_home="/lms",
            )
        )
        return folder

    first_folder = connect("shop")
    assert connection_notice(DoctorOptions()) == f"Checking Shop, {first_folder}"
    # Of two connections, the newest is checked.
    connect("store")
    assert connection_notice(DoctorOptions()) == (
        f"Checking Store, one of 2 connections. To check another: --application {first_folder}"
    )
    assert connection_notice(DoctorOptions(application=first_folder)) == ""
    # In the folder of a connection, that connection is checked.
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(first_folder)
    assert connection_notice(DoctorOptions()).startswith("Checking Shop, ")


def test_the_notice_names_the_demo_that_is_checked_if_there_are_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USHER_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)

    def start_demo(name: str, started_at: int) -> None:
        home = tmp_path / ".demo" / name
        for part in ("application/.env", "lms/lms.env.yml", "lms/manage.py", "lock"):
            (home / part).parent.mkdir(parents=True, exist_ok=True)
            (home / part).touch()
        (home / "lms/lms.env.yml").write_text("LMS_ROOT_URL: http://lms")
        os.utime(home / "lock", (started_at, started_at))

    start_demo("mitxonline", started_at=1)
    assert connection_notice(DoctorOptions()) == ""
    start_demo("mitxpro", started_at=2)
    assert find_places(DoctorOptions()).demo_home == tmp_path / ".demo/mitxpro"
    assert connection_notice(DoctorOptions()) == (
        "Checking .demo/mitxpro, the newest of 2 demos. To check another: "
        "--application .demo/mitxonline"
    )
    assert connection_notice(DoctorOptions(application=".demo/mitxonline")) == ""


def test_a_project_is_checked_before_a_connection_of_another_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project's ``usher dev`` is checked even if it is stopped."""
    other = tmp_path / "other"
    other.mkdir()
    connections.remember(
        connections.Connection(
            name="shop", application=str(other), lms_url="http://lms", lms_home="/lms"
        )
    )
    assert find_places(DoctorOptions()).dev_home == project / ".usher" / "dev"
    assert connection_notice(DoctorOptions()) == ""
    (project / ".env").write_text("OPENEDX_API_BASE_URL=http://localhost:1\n")
    assert find_places(DoctorOptions()).env_file == project / ".env"
    assert connection_notice(DoctorOptions()) == ""
    # In the folder of the only connection, no notice is needed.
    monkeypatch.chdir(other)
    assert connection_notice(DoctorOptions()) == ""
