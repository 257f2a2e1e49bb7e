"""``usher dev``: its private folder, its checks of the project, and the restarts of the project and
its worker after changes of the code."""

import shutil
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.cli.test_processes import eventually
from usher.cli.demo.errors import DemoError
from usher.cli.demo.processes import ServerProcess, is_listening
from usher.cli.demo.setup import Step
from usher.cli.dev.command import _repeat_after_saves, _run_steps
from usher.cli.dev.ports import Ports
from usher.cli.dev.project import Project
from usher.cli.dev.project_files import ProjectFiles
from usher.cli.dev.project_with_lms import ProjectWithLms
from usher.embedded.home.process import free_port


def some_ports() -> Ports:
    return Ports(project=free_port(), lms=free_port())


def test_opening_creates_a_private_folder_and_changes_no_file_of_the_project(
    tmp_path: Path,
) -> None:
    (tmp_path / "manage.py").write_text("")
    (tmp_path / ".gitignore").write_text("build/\n")
    home = tmp_path / "lms"
    home.mkdir(mode=0o755)
    servers = ProjectWithLms(Project.at(tmp_path), home, some_ports())
    try:
        servers.open()
    finally:
        servers.stop()
    assert (tmp_path / ".gitignore").read_text() == "build/\n"
    assert (home / ".gitignore").read_text() == "*\n"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    modes_of_secret_files = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in home.iterdir()
        if path.name not in (".gitignore", "lock", "ports.json")
    }
    assert set(modes_of_secret_files) >= {"credentials.json", "oidc_rsa_private_key.pem"}
    assert set(modes_of_secret_files.values()) == {0o600}, modes_of_secret_files


@pytest.mark.parametrize(
    "has_folder", [False, True], ids=["no folder", "the empty folder of startapp"]
)
def test_a_user_model_without_migrations_is_refused_before_tables_are_created(
    tmp_path: Path, *, has_folder: bool
) -> None:
    """Without this check, ``migrate`` would fail after it has created the admin's tables."""
    (tmp_path / "people").mkdir()
    if has_folder:
        (tmp_path / "people" / "migrations").mkdir()
        (tmp_path / "people" / "migrations" / "__init__.py").touch()
    (tmp_path / "people" / "__init__.py").touch()
    (tmp_path / "people" / "models.py").write_text(
        "from django.contrib.auth.models import AbstractUser\nclass User(AbstractUser):\n    pass\n"
    )
    (tmp_path / "settings.py").write_text(
        "SECRET_KEY = 'x' * 50\nROOT_URLCONF = 'urls'\nAUTH_USER_MODEL = 'people.User'\n"
        "INSTALLED_APPS = ['people', 'django.contrib.auth', 'django.contrib.contenttypes',\n"
        "    'django.contrib.sessions']\n"
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'db.sqlite3'}}\n"
        "LOGIN_URL = '/login/'\nDEBUG = True\n"
        "from usher.application import defaults\ndefaults.apply(globals())\n"
    )
    (tmp_path / "urls.py").write_text(
        "from django.urls import include, path\n"
        "urlpatterns = [path('', include('usher.application.urls'))]\n"
    )
    (tmp_path / "manage.py").write_text(
        "import os, sys\nos.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    )
    servers = ProjectWithLms(Project.at(tmp_path), tmp_path / "lms", some_ports())
    try:
        servers.open()
        _, run_step = next(servers.steps(recheck=False))
        with pytest.raises(DemoError, match=r"(?m)^\$ python manage.py makemigrations people$"):
            run_step()
    finally:
        servers.stop()
    assert not (tmp_path / "db.sqlite3").exists()


def test_project_and_lms_need_different_ports(tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text("")
    port = free_port()
    servers = ProjectWithLms(Project.at(tmp_path), tmp_path / "lms", Ports(project=port, lms=port))
    try:
        with pytest.raises(DemoError, match=f"both have the port {port}"):
            servers.open()
    finally:
        servers.stop()


def create_project(folder: Path, lines: str = "") -> None:
    """Creates a project whose sign-in page does not exist. lines: added to the project's
    settings."""
    (folder / "shop.py").write_text(
        "SECRET_KEY = 'x' * 50\nROOT_URLCONF = 'shop_urls'\n"
        "INSTALLED_APPS = ['django.contrib.auth', 'django.contrib.contenttypes',\n"
        "    'django.contrib.sessions']\n"
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'db.sqlite3'}}\n"
        f"DEBUG = True\n{lines}"
    )
    (folder / "shop_urls.py").write_text(
        "from django.urls import include, path\n"
        "urlpatterns = [path('', include('usher.application.urls'))]\n"
    )
    (folder / "manage.py").write_text(
        "import os, sys\nos.environ['DJANGO_SETTINGS_MODULE'] = 'shop'\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    )


#: A worker that writes the version of its code to a file when it starts. The tests save versions
#: of different lengths: a file whose size differs is noticed even if its time does not differ.
WORKER = """
import signal
import code_of_shop
with open("started.txt", "a") as file:
    file.write(f"{code_of_shop.VERSION} ")
signal.pause()
"""


def test_the_worker_restarts_when_a_python_file_changes(tmp_path: Path) -> None:
    """A worker that has exited because of an error in the code is started again, too."""
    code, started = tmp_path / "code_of_shop.py", tmp_path / "started.txt"
    (tmp_path / "manage.py").write_text(WORKER)
    code.write_text("VERSION = 1\n")
    servers = ProjectWithLms(Project.at(tmp_path), tmp_path / "lms", some_ports())
    servers.home.mkdir()
    _, worker = servers._create_project_processes()
    try:
        servers._start_all([worker])
        assert eventually(lambda: started.exists() and started.read_text() == "1 ")
        assert servers.follow_changes() == ""
        code.write_text("VERSION = 20\n")
        assert servers.follow_changes() == ""
        assert eventually(lambda: started.read_text() == "1 20 ")
        # The changed code can't be loaded.
        code.write_text("VERSION =\n")
        assert servers.follow_changes() == ""
        assert eventually(lambda: bool(worker.end_report()))
        servers.check()  # raises nothing, so the command continues
        message = servers.follow_changes()
        assert "SyntaxError" in message
        assert message.endswith("starts again when a Python file or .env of your project changes.")
        assert servers.follow_changes() == ""
        code.write_text("VERSION = 300\n")
        assert servers.follow_changes() == "worker started again."
        assert eventually(lambda: started.read_text() == "1 20 300 ")
    finally:
        servers.stop()


#: The server and the worker of a project. Each writes its name and the value in ``.env`` to a file
#: when it starts. The server exits if the value is "broken".
SERVER_AND_WORKER = """
import pathlib, signal, sys
from http.server import HTTPServer, SimpleHTTPRequestHandler
command, value = sys.argv[1], pathlib.Path(".env").read_text()
if value == "broken" and command == "runserver":
    raise SystemExit(4)
with open("started.txt", "a") as file:
    file.write(f"{command}={value} ")
if command == "runserver":
    host, port = sys.argv[2].split(":")
    HTTPServer((host, int(port)), SimpleHTTPRequestHandler).serve_forever()
signal.pause()
"""


def test_a_change_of_the_env_file_restarts_the_project_and_its_worker(tmp_path: Path) -> None:
    env, started = tmp_path / ".env", tmp_path / "started.txt"
    (tmp_path / "manage.py").write_text(SERVER_AND_WORKER)
    env.write_text("1")
    servers = ProjectWithLms(Project.at(tmp_path), tmp_path / "lms", some_ports())
    servers.home.mkdir()

    def wait_for_starts(*lines: str) -> bool:
        return eventually(lambda: sorted(started.read_text().split()) == sorted(lines))

    try:
        servers._start_all(servers._create_project_processes())
        assert eventually(started.exists)
        assert wait_for_starts("runserver=1", "reconcile=1")
        env.write_text("20")
        assert servers.follow_changes() == ""
        assert wait_for_starts("runserver=1", "reconcile=1", "runserver=20", "reconcile=20")
        # With this value, the project exits with code 4, and the worker runs on.
        env.write_text("broken")
        assert servers.follow_changes() == ""
        assert eventually(lambda: "exit code 4" in servers.follow_changes())
        assert eventually(lambda: "reconcile=broken" in started.read_text())
        servers.check()  # raises nothing, so the command continues
        started.write_text("")
        env.write_text("300")
        assert servers.follow_changes() == "project started again."
        assert wait_for_starts("runserver=300", "reconcile=300")
    finally:
        servers.stop()


def test_usher_dev_continues_if_the_project_ends_because_of_a_change(tmp_path: Path) -> None:
    """``runserver`` reloads the project by itself, and ends if the settings can't be loaded."""
    program = (
        "import pathlib, time\n"
        "while 'FOO = (' not in pathlib.Path('settings.py').read_text():\n    time.sleep(0.02)\n"
        "import settings\n"
    )
    settings = tmp_path / "settings.py"
    settings.write_text("FOO = 1\n")
    (tmp_path / "manage.py").write_text(program)
    servers = ProjectWithLms(Project.at(tmp_path), tmp_path / "lms", some_ports())
    servers.home.mkdir()
    project, _ = servers._create_project_processes()
    project.ready_url = ""  # so that the start does not wait for an answer
    try:
        servers._start_all([project])
        settings.write_text("FOO = (\n")
        assert eventually(lambda: bool(project.end_report()))
        while not (message := servers.follow_changes()):
            servers.check()
        assert "settings.py, line 1: SyntaxError" in message
        servers.check()
        settings.write_text("FOO = 10\n")
        assert servers.follow_changes() == "project started again."
        servers.check()
    finally:
        servers.stop()


def test_the_files_of_a_project_without_processes_are_not_read(tmp_path: Path) -> None:
    """``usher dev --provision``, for example, starts no process."""
    (tmp_path / "manage.py").write_text("")
    servers = ProjectWithLms(Project.at(tmp_path), tmp_path / "lms", some_ports())
    assert servers._files is None
    assert servers.follow_changes() == ""


def test_a_worker_that_stops_without_a_change_of_the_code_ends_the_command(tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text("raise SystemExit(3)\n")
    servers = ProjectWithLms(Project.at(tmp_path), tmp_path / "lms", some_ports())
    servers.home.mkdir()
    _, worker = servers._create_project_processes()
    try:
        servers._start_all([worker])
        assert eventually(lambda: bool(worker.end_report()))
        assert servers.follow_changes() == ""
        with pytest.raises(DemoError, match=r"exit code 3.*(?s:.*)Start this command again"):
            servers.check()
    finally:
        servers.stop()


def test_usher_dev_ends_if_its_folder_is_deleted(tmp_path: Path) -> None:
    """Otherwise the next restart of the worker would fail, because the folder has the logs."""
    (tmp_path / "manage.py").write_text("")
    servers = ProjectWithLms(Project.at(tmp_path), tmp_path / "lms", some_ports())
    try:
        servers.open()
        assert servers.follow_changes() == ""
        shutil.rmtree(servers.home)
        with pytest.raises(DemoError, match=r"lms, which has the LMS's data, was deleted or moved"):
            servers.follow_changes()
    finally:
        servers.stop()


def test_python_files_and_env_are_watched_except_in_folders_without_own_code(
    tmp_path: Path,
) -> None:
    for folder in ("shop", "venv/lib", ".usher/dev", "node_modules"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    files = ProjectFiles(tmp_path)
    for name in ("venv/lib/a.py", ".usher/dev/a.py", "node_modules/a.py", "shop/a.txt"):
        (tmp_path / name).touch()
    assert not files.find_changed_names()
    (tmp_path / "shop" / "a.py").touch()
    assert files.find_changed_names() == {"a.py"}
    assert not files.find_changed_names()
    (tmp_path / "shop" / "a.py").unlink()
    assert files.find_changed_names() == {"a.py"}
    (tmp_path / ".env").touch()
    assert files.find_changed_names() == {".env"}


def test_files_that_are_saved_one_after_another_are_one_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``git checkout``, for example, changes many files, and each is empty for a moment."""
    code = tmp_path / "a.py"
    files = ProjectFiles(tmp_path)
    code.touch()
    further_saves = [
        lambda: code.write_text("VERSION = 1\n"),
        lambda: (tmp_path / "b.py").write_text("VERSION = 2\n"),
    ]
    monkeypatch.setattr(time, "sleep", lambda _: further_saves and further_saves.pop(0)())
    assert files.find_changed_names() == {"a.py", "b.py"}
    assert not files.find_changed_names()


def test_changes_are_reported_even_if_files_are_saved_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "a.py"
    files = ProjectFiles(tmp_path)
    code.touch()

    def save(_: float) -> None:
        code.write_text(code.read_text() + "#")

    monkeypatch.setattr(time, "sleep", save)
    assert files.find_changed_names() == {"a.py"}


#: The lines of a settings file that apply Usher's settings.
APPLY_DEFAULTS = "from usher.application import defaults\ndefaults.apply(globals())\n"


def run_first_step(folder: Path) -> str:
    """Runs the first step of ``usher dev``, which checks the project. Returns the step's result."""
    servers = ProjectWithLms(Project.at(folder), folder / "lms", some_ports())
    try:
        servers.open()
        _, run_step = next(servers.steps(recheck=False))
        return run_step()
    finally:
        servers.stop()


def test_warnings_of_the_check_are_shown(tmp_path: Path) -> None:
    create_project(tmp_path, APPLY_DEFAULTS)
    message = run_first_step(tmp_path)
    assert "usher.W004: LOGIN_URL is '/accounts/login/', where no view answers" in message
    assert "Set LOGIN_URL to your sign-in page." in message


def test_a_project_that_does_not_call_defaults_apply_is_refused(tmp_path: Path) -> None:
    create_project(tmp_path)
    with pytest.raises(DemoError) as refused:
        run_first_step(tmp_path)
    assert all(f"`{line}`" in str(refused.value) for line in APPLY_DEFAULTS.splitlines())


def test_an_error_about_allowed_hosts_names_the_address_that_usher_dev_sets(tmp_path: Path) -> None:
    create_project(tmp_path, "ALLOWED_HOSTS = ['shop.example.org']\n" + APPLY_DEFAULTS)
    with pytest.raises(DemoError, match=r"Add 'localhost'.* `usher dev` sets SITE_BASE_URL to h"):
        run_first_step(tmp_path)


def test_the_settings_for_the_shell_are_not_written_before_there_is_an_lms(tmp_path: Path) -> None:
    """``manage.py check`` tells people to load the file of settings as soon as the file exists."""
    create_project(tmp_path)
    with pytest.raises(DemoError):
        run_first_step(tmp_path)
    assert not (tmp_path / "lms" / "env").exists()


def test_an_error_of_the_check_begins_with_its_id(tmp_path: Path) -> None:
    create_project(tmp_path, "USHER_CONCURRENCY = 'many'\n" + APPLY_DEFAULTS)
    with pytest.raises(DemoError, match=r"^usher\.E001: USHER_CONCURRENCY is 'many'"):
        run_first_step(tmp_path)


def test_a_project_whose_broker_is_down_is_refused_before_tables_are_created(
    tmp_path: Path,
) -> None:
    app = (
        "import sys\nfrom celery import Celery\n"
        "app = Celery('shop')\napp.conf.broker_url = CELERY_BROKER_URL\n"
    )
    create_project(tmp_path, "CELERY_BROKER_URL = 'redis://127.0.0.1:9/0'\n" + app + APPLY_DEFAULTS)
    with pytest.raises(DemoError, match="broker does not answer"):
        run_first_step(tmp_path)
    assert not (tmp_path / "db.sqlite3").exists()


def test_ports_are_remembered_for_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text("")
    home, chosen = tmp_path / "lms", some_ports()
    servers = ProjectWithLms(
        Project.at(tmp_path),
        home,
        Ports.of_last_start(home).with_options(project=chosen.project, lms=chosen.lms),
    )
    try:
        servers.open()
    finally:
        servers.stop()
    remembered = Ports.of_last_start(home)
    assert remembered == chosen
    # A start without --port and --lms-port, and one with --lms-port 9.
    assert remembered.with_options(project=None, lms=None) == chosen
    assert remembered.with_options(project=None, lms=9) == Ports(project=chosen.project, lms=9)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"project": "x", "lms": null}'])
def test_a_file_of_ports_that_cannot_be_read_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    assert Ports.of_last_start(tmp_path) == Ports(project=8000, lms=18000)


def test_the_error_about_a_database_that_cannot_be_used_names_its_file(tmp_path: Path) -> None:
    unusable = "DATABASES['default']['NAME'] = '/nowhere/db.sqlite3'\n"
    create_project(tmp_path, unusable + APPLY_DEFAULTS)
    with pytest.raises(DemoError, match=r"The file is /nowhere/db\.sqlite3"):
        run_first_step(tmp_path)


def test_the_error_about_a_folder_that_cannot_be_created_names_the_option_home(
    tmp_path: Path,
) -> None:
    (tmp_path / "manage.py").write_text("")
    (tmp_path / "file").write_text("")
    servers = ProjectWithLms(Project.at(tmp_path), tmp_path / "file" / "dev", some_ports())
    with pytest.raises(DemoError, match=r"file/dev can't be created .*: Not a directory.*--home"):
        servers.open()


def test_an_error_in_the_settings_is_shown_with_file_and_line(tmp_path: Path) -> None:
    create_project(tmp_path, "FOO = bar\n" + APPLY_DEFAULTS)
    line = (tmp_path / "shop.py").read_text().splitlines().index("FOO = bar") + 1
    with pytest.raises(DemoError, match=rf"run: shop\.py, line {line}: NameError: name 'bar'"):
        run_first_step(tmp_path)


def test_the_error_about_a_folder_that_cannot_be_locked_names_the_folder(tmp_path: Path) -> None:
    """``usher dev`` tries to lock a file in the folder to find out whether it is running
    already."""
    (tmp_path / "manage.py").write_text("")
    servers = ProjectWithLms(Project.at(tmp_path), tmp_path / "lms", some_ports())
    (tmp_path / "lms" / "lock").mkdir(parents=True)
    with pytest.raises(DemoError, match=r"lms can't be created or changed: Is a directory"):
        servers.try_to_lock()


def test_connecting_the_project_fails_if_the_adapter_fails_for_the_learner(tmp_path: Path) -> None:
    """If connecting succeeded, the LMS would start and nobody would be enrolled."""
    (tmp_path / "adapters.py").write_text(
        "from usher.application.adapter import DefaultAdapter\n"
        "class Adapter(DefaultAdapter):\n"
        "    def lms_username(self, user):\n        return user.nickname\n"
    )
    create_project(tmp_path, "USHER_ADAPTER = 'adapters.Adapter'\n" + APPLY_DEFAULTS)
    servers = ProjectWithLms(Project.at(tmp_path), tmp_path / "lms", some_ports())
    try:
        servers.open()
        with pytest.raises(DemoError, match=r"lms_username of USHER_ADAPTER failed.*'nickname'"):
            servers._connect_project(recheck=False)
    finally:
        servers.stop()


#: A worker that reads its code some time after its start. It writes the version and the process id
#: of ``ServerProcess``, which is the id of its parent.
SLOW_WORKER = """
import os, signal, time
time.sleep(0.3)
import code_of_shop
with open("started.txt", "a") as file:
    file.write(f"{code_of_shop.VERSION}:{os.getppid()} ")
signal.pause()
"""


def open_project(folder: Path) -> tuple[ProjectWithLms, ServerProcess, ServerProcess]:
    """Opens the folder of ``usher dev`` for the project in ``folder``. Returns the servers, and of
    these the project's own server and its worker, which are not started. The start does not wait
    for an answer of the server."""
    servers = ProjectWithLms(Project.at(folder), folder / "lms", some_ports())
    servers.open()
    project, worker = servers._create_project_processes()
    project.ready_url = ""
    return servers, project, worker


class SavingConsole(Console):
    """When it shows the advice, saves the corrected code, as the integrator would. Then it waits
    until the worker has read this code, or has ended. So ``usher dev`` notices the change only
    afterwards, and must not start a worker again that has read the corrected code. started_file:
    the worker writes it after it has read its code."""

    def __init__(self, code: Path, worker: ServerProcess, started_file: Path) -> None:
        super().__init__(record=True, width=200)
        self.code, self.worker, self.started_file = code, worker, started_file

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **options)
        if "This step is repeated" in str(objects):
            self.code.write_text("VERSION = 300\n")
            assert eventually(lambda: bool(self.worker.end_report()) or has_text(self.started_file))


def has_text(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def test_a_failed_step_is_repeated_after_code_was_saved_during_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is repeated soon after it failed. If it fails again, it is repeated after the next
    change of the code, which starts the worker once."""
    monkeypatch.setattr("usher.cli.dev.project_with_lms._RELOAD_SECONDS", 1.0)
    code, started = tmp_path / "code_of_shop.py", tmp_path / "started.txt"
    (tmp_path / "manage.py").write_text(SLOW_WORKER)
    code.write_text("VERSION =\n")
    servers, _, worker = open_project(tmp_path)
    attempts: list[str] = []

    def enroll_learner() -> str:
        attempts.append("learner")
        if len(attempts) == 1:
            code.write_text("VERSION = (\n")  # saved during the start, and still broken
        while not has_text(started):
            servers._require_all_running()
            time.sleep(0.01)
        return "enrolled"

    console = SavingConsole(code, worker, started)
    steps: list[Step] = []
    try:
        servers._start_all([worker])
        run = _repeat_after_saves(servers, console, once=False)
        _run_steps([("learner", enroll_learner)], steps, console, run)
        assert worker.process is not None
        process_id = str(worker.process.pid)
        assert eventually(lambda: process_id in started.read_text())
        # ``SLOW_WORKER`` writes the VERSION that it read, in the corrected code 300.
        assert started.read_text() == f"300:{process_id} ", "started once with the corrected code"
    finally:
        servers.stop()
    assert [step.detail for step in steps] == ["enrolled"]
    output = " ".join(console.export_text().split())
    assert "code_of_shop.py, line 1: SyntaxError" in output
    assert "Start this command again" not in output


def test_the_option_once_ends_the_command_if_the_saved_code_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usher.cli.dev.project_with_lms._RELOAD_SECONDS", 0.5)
    code = tmp_path / "code_of_shop.py"
    (tmp_path / "manage.py").write_text(WORKER)
    servers, _, worker = open_project(tmp_path)
    code.write_text("VERSION =\n")

    def fail_with_worker() -> str:
        assert eventually(lambda: bool(worker.end_report()))
        servers._require_all_running()
        return ""

    console = Console(record=True)
    try:
        servers._start_all([worker])
        with pytest.raises(DemoError, match="SyntaxError"):
            _run_steps(
                [("learner", fail_with_worker)],
                steps=[],
                console=console,
                run=_repeat_after_saves(servers, console, once=True),
            )
    finally:
        servers.stop()


def test_the_settings_module_is_in_the_error_and_in_the_settings_for_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_project(tmp_path)
    with pytest.raises(DemoError, match=r"INSTALLED_APPS of shop\. .*DJANGO_SETTINGS_MODULE"):
        run_first_step(tmp_path)
    servers = ProjectWithLms(Project.at(tmp_path), tmp_path / "lms", some_ports())
    try:
        servers.open()
        monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
        servers._write_environment_file()
        assert "DJANGO_SETTINGS_MODULE" not in servers.environment_file.read_text()
        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "shop.settings.local")
        servers._write_environment_file()
    finally:
        servers.stop()
    lines = servers.environment_file.read_text().splitlines()
    assert "export DJANGO_SETTINGS_MODULE=shop.settings.local" in lines


#: Behaves like ``runserver``: if the code has a syntax error, it keeps running and serves nothing.
RUNSERVER_SUBSTITUTE = """
import pathlib, signal, sys
from http.server import HTTPServer, SimpleHTTPRequestHandler
try:
    compile(pathlib.Path("code.py").read_text(), "code.py", "exec")
except SyntaxError:
    signal.pause()
host, port = sys.argv[2].split(":")
HTTPServer((host, int(port)), SimpleHTTPRequestHandler).serve_forever()
"""


def test_a_project_that_does_not_listen_after_a_change_is_restarted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen_seconds = 0.3
    monkeypatch.setattr("usher.cli.dev.project_with_lms._LISTEN_SECONDS", listen_seconds)
    code = tmp_path / "code.py"
    (tmp_path / "manage.py").write_text(RUNSERVER_SUBSTITUTE)
    code.write_text("VERSION = (\n")
    servers, project, _ = open_project(tmp_path)
    try:
        servers._start_all([project])
        code.write_text("VERSION = (  \n")  # a change, but still a syntax error
        assert eventually(lambda: servers.follow_changes() == "project started again.")
        time.sleep(listen_seconds + 0.1)
        assert servers.follow_changes() == "", "it is still broken"
        # After a change that mends it, the project listens; then it needs no restart.
        code.write_text("VERSION = 1\n")
        assert eventually(lambda: servers.follow_changes() == "project started again.")
        assert eventually(lambda: is_listening(servers.ports.project))
        code.write_text("VERSION = 20\n")
        servers.follow_changes()
        time.sleep(listen_seconds + 0.1)
        assert servers.follow_changes() == "", "it listens"
    finally:
        servers.stop()


#: Behaves like ``runserver`` and the worker: if the code raises an error, ``runserver`` prints the
#: error, keeps running and serves nothing, and the worker exits. The code can find out who loads
#: it.
SERVER_AND_WORKER_WITH_CODE = """
import signal, sys, traceback
from http.server import HTTPServer, SimpleHTTPRequestHandler
try:
    import code_of_shop
except Exception:
    if sys.argv[1] != "runserver":
        raise
    traceback.print_exc()
    signal.pause()
if sys.argv[1] != "runserver":
    signal.pause()
host, port = sys.argv[2].split(":")
HTTPServer((host, int(port)), SimpleHTTPRequestHandler).serve_forever()
"""
BROKEN_FOR_SERVER = """
import sys
if sys.argv[1] == "runserver":
    raise ValueError("no middleware")
"""


def test_the_error_of_a_project_that_does_not_listen_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker runs, because it does not use the code with the error."""
    monkeypatch.setattr("usher.cli.dev.project_with_lms._LISTEN_SECONDS", 0.0)
    code = tmp_path / "code_of_shop.py"
    (tmp_path / "manage.py").write_text(SERVER_AND_WORKER_WITH_CODE)
    code.write_text(BROKEN_FOR_SERVER)
    servers, project, worker = open_project(tmp_path)
    messages: list[str] = []

    def follow_until(text: str) -> bool:
        messages.append(servers.follow_changes())
        return text in messages[-1]

    try:
        servers._start_all([project, worker])
        code.write_text(BROKEN_FOR_SERVER + "\n")
        assert eventually(lambda: follow_until("does not answer"))
        assert messages[0] == "project started again."
        assert f"project does not answer at {servers.url}. The cause: " in messages[-1]
        assert "code_of_shop.py, line 4: ValueError: no middleware" in messages[-1]
        assert servers.follow_changes() == ""
        code.write_text("")
        assert eventually(lambda: follow_until("project started again."))
        assert eventually(lambda: is_listening(servers.ports.project))
        assert servers.follow_changes() == ""
    finally:
        servers.stop()


def test_a_project_whose_worker_stopped_because_of_the_change_is_not_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise ``usher dev`` would say that the project has started again, although it cannot."""
    monkeypatch.setattr("usher.cli.dev.project_with_lms._LISTEN_SECONDS", 0.0)
    code = tmp_path / "code_of_shop.py"
    (tmp_path / "manage.py").write_text(SERVER_AND_WORKER_WITH_CODE)
    code.write_text("raise ValueError\n")
    servers, project, worker = open_project(tmp_path)
    try:
        servers._start_all([project, worker])
        code.write_text("raise ValueError('no shop')\n")
        servers._notice_changes()
        assert eventually(lambda: bool(worker.end_report()))
        message = servers.follow_changes()
        assert "worker stopped by itself" in message
        assert "started again" not in message
        assert servers.follow_changes() == ""
    finally:
        servers.stop()
