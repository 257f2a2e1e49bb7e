"""A Django project and an embedded LMS that is connected to it, as processes that stop together."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from usher.cli.demo import connection, prepared
from usher.cli.demo.browser import Browser
from usher.cli.demo.credentials import Credentials
from usher.cli.demo.errors import DemoError, NotStarted
from usher.cli.demo.processes import (
    RunningServers,
    ServerProcess,
    is_listening,
    require_free_port,
)
from usher.cli.dev.lms_accounts import accounts_in
from usher.cli.dev.ports import Ports
from usher.cli.dev.project import Project
from usher.cli.dev.project_files import ENV_FILE, ProjectFiles
from usher.cli.output import relative_to_here
from usher.contract import stop_with_parent
from usher.contract.envfile import write_exports, write_private
from usher.contract.environment import ALL_KEYS, Env
from usher.contract.oauth import DEFAULT_BACKEND, social_login_path
from usher.contract.paths import LmsPath
from usher.embedded.conf.files import SETTINGS_FILE
from usher.embedded.home.folder import FolderError, manage

#: Different host names, so that browsers keep the cookies of project and LMS apart.
PROJECT_HOST, LMS_HOST = "localhost", "127.0.0.1"
#: The names of the project's processes, for messages and logs.
_PROJECT, _WORKER = "project", "worker"
#: Seconds within which the learner must be enrolled.
_ENROLL_SECONDS = 60.0
#: Seconds within which ``runserver`` reloads the project after a change, and answers again.
_RELOAD_SECONDS = 6.0
#: If the project does not listen this many seconds after a change, ``runserver`` has missed a
#: change.
_LISTEN_SECONDS = 15.0
#: The most addresses that one message lists.
_MAX_ADDRESSES = 5
_SETTINGS_MODULE = "DJANGO_SETTINGS_MODULE"
#: Settings that ``usher dev`` never empties: without its key, the project could not decrypt stored
#: tokens.
_NEVER_EMPTIED = {Env.USHER_ENCRYPTION_KEYS}


@dataclass(frozen=True)
class DevLearner:
    """The test learner in the project.

    login: the name to enter at the project's sign-in page; '' if the learner could not be created.
    creation_error: why the learner could not be created; '' if there is a learner. login_name: the
    kind of login, such as ``e-mail address``."""

    login: str
    password: str = field(repr=False)
    creation_error: str = ""
    login_name: str = "username"


class ProjectWithLms(RunningServers):
    """The project, its worker and the LMS. The LMS's data, secrets and logs are kept in ``home``: a
    later start with the same folder continues with the same LMS."""

    def __init__(self, project: Project, home: Path, ports: Ports) -> None:
        super().__init__()
        self.project = project
        self.home = home.resolve()
        self.url = f"http://{PROJECT_HOST}:{ports.project}"
        self.lms_url = f"http://{LMS_HOST}:{ports.lms}"
        self.ports = ports
        #: The reason why the learner can't sign in to the LMS; "" if the learner can.
        self.sign_in_problem = ""
        self.credentials = Credentials.empty()
        self.learner = DevLearner(login="", password="")
        #: The learner's username in the LMS.
        self._username = ""
        #: The package for ``celery -A``; "" if ``reconcile --watch`` is the worker.
        self._celery = ""
        #: Whether the learner was signed in to the LMS.
        self.is_signed_in = False
        #: Whether ``restore`` has changed the LMS's settings.
        self.settings_restored = False
        #: Notices changes of the project's files; None before ``open``.
        self._files: ProjectFiles | None = None
        #: When a file of the project changed last (monotonic seconds); None if none has changed
        #: since ``open``.
        self._changed_at: float | None = None
        #: The value of ``_changed_at`` at the last check of
        #: ``_restart_server_that_missed_a_change``.
        self._checked_change: float | None = None
        #: The project's server, if such a check restarted it, until it listens or stops, its error
        #: is reported, or a file changes again; otherwise None.
        self._silent_server: ServerProcess | None = None

    @classmethod
    def existing(cls, folder: Path, home: Path) -> ProjectWithLms:
        """Project and LMS of the earlier start in ``home``, which may still be running. Raises
        NotStarted if there was no earlier start."""
        try:
            record = prepared.read_record(home)
            ports = Ports(
                project=urlsplit(str(record["url"])).port or 0,
                lms=urlsplit(str(record["lms_url"])).port or 0,
            )
        except (ValueError, KeyError) as error:
            raise NotStarted(
                f"{home} has no LMS of `usher dev` yet. Run `usher dev` once to create it."
            ) from error
        return cls(Project.at(folder), home, ports)

    def restore(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Steps, as in ``steps``, that restore the settings and records of project and LMS. Data
        and learners stay."""
        self.credentials = Credentials.load_or_make(self.home)
        self.project.environment = self._environment()
        yield "lms", self._restore_lms
        yield "connected", lambda: self._connect_project(recheck=False)

    @property
    def lms_home(self) -> Path:
        return self.home / "lms"

    def open(self) -> None:
        """Creates and locks the folder, and makes or loads the secrets. Raises NotStarted if
        another run uses the folder or a port is taken, DemoError if the folder can't be made."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self.home.chmod(0o700)  # secrets, logs, and databases with sessions
            if not (gitignore := self.home / ".gitignore").exists():
                gitignore.write_text("*\n")
        except OSError as error:
            raise self._folder_error(error) from error
        if not self.try_to_lock():
            raise NotStarted(
                f"`usher dev` is already running for {self.project.folder}. "
                "Use the running servers, or stop them with Ctrl-C first."
            )
        if self.ports.project == self.ports.lms:
            raise NotStarted(
                f"Your project and the LMS can't both have the port {self.ports.lms}. Nothing was "
                "started. Choose another with --lms-port PORT."
            )
        require_free_port(self.ports.project, "your project", "--port")
        require_free_port(self.ports.lms, "the LMS", "--lms-port")
        self._files = ProjectFiles(self.project.folder)
        self.ports.remember(self.home)
        self.credentials = Credentials.load_or_make(self.home)
        self.project.environment = self._environment()

    def try_to_lock(self) -> bool:
        """Locks the folder for this process until ``stop``. Returns False if another process uses
        the folder. Raises DemoError if the folder can't be written."""
        try:
            lock = (self.home / "lock").open("a+")
        except OSError as error:
            raise self._folder_error(error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _folder_error(self, error: OSError) -> DemoError:
        return DemoError(
            f"The folder {self.home} can't be created or changed: {error.strerror}. Nothing was "
            "started. Choose another folder with --home FOLDER."
        )

    def _environment(self) -> dict[str, str]:
        """The project's settings for this LMS. All other settings of a connection are emptied,
        because the project's ``.env`` may have values for another LMS."""
        empty_values = {key: "" for key in ALL_KEYS if key not in _NEVER_EMPTIED}
        return {
            **empty_values,
            **connection.environment(self.lms_url, self.credentials),
            "SITE_BASE_URL": self.url,
            "OIDC_RSA_PRIVATE_KEY": _load_or_make_key(self.home / "oidc_rsa_private_key.pem"),
            "USHER_EDX_OAUTH_SECRET": self.credentials.lms_client_secret,
            "USHER_TEST_LEARNER_PASSWORD": self.credentials.learner_password,
        }

    @property
    def environment_file(self) -> Path:
        return self.home / "env"

    def _write_environment_file(self) -> None:
        """Writes the settings to a file for the shell: after ``. .usher/dev/env``, manage.py uses
        this LMS, and the settings module of this process. The file contains secrets."""
        variables = dict(self.project.environment)
        if module := os.environ.get(_SETTINGS_MODULE):
            variables[_SETTINGS_MODULE] = module
        write_exports(self.environment_file, variables)

    # -- steps

    def steps(self, *, recheck: bool) -> Iterator[tuple[str, Callable[[], str]]]:
        """(name, action) of each step, in order. Call an action before you request the next step,
        which may depend on its result. An action returns one line for people, or raises DemoError.
        recheck: also creates accounts in this LMS that the database has from another LMS."""
        yield "project", self._check_project
        yield "lms", self._make_lms
        yield "connected", lambda: self._connect_project(recheck=recheck)
        yield "servers", self._start_servers
        if self.learner.login:
            yield "learner", self._wait_for_learner
            if not self.sign_in_problem:
                yield "sign-in", self._sign_in

    def _check_project(self) -> str:
        """Checks the project's settings. Returns a line with the result and warnings. Raises
        DemoError if the project can't use the LMS."""
        expected = {
            key: self.project.environment[key]
            for key in (*connection.environment(self.lms_url, self.credentials), "SITE_BASE_URL")
        }
        report = self.project.ask("check", expected)
        if report["problem"]:
            raise DemoError(f"{report['problem']}\nThen run `usher dev` again.")
        if report["unread"]:
            raise DemoError(
                f"settings.py sets {', '.join(report['unread'])} itself, so your project would not "
                "use the LMS of this command. Remove these settings from settings.py: "
                "defaults.apply() reads them from the environment."
            )
        self._celery = str(report["celery"])
        if warnings := report["warnings"]:
            lines = "\n".join(warnings)
            return f"settings of {self.project.name} work, with warnings of the check:\n{lines}"
        return f"settings of {self.project.name} are complete"

    def _make_lms(self) -> str:
        if prepared.is_prepared(self.home, self._fingerprint()):
            return f"embedded LMS of the earlier start in {relative_to_here(self.lms_home)}"
        return self._provision()

    def _provision(self) -> str:
        self._write_settings_and_records()
        return "embedded LMS with two courses"

    def _restore_lms(self) -> str:
        """Restores settings and records of the LMS. Returns a line with the differences found, and
        sets ``settings_restored``."""
        settings = self.lms_home / SETTINGS_FILE
        earlier_settings = settings.read_text() if settings.exists() else ""
        restored_records = self._write_settings_and_records()
        self.settings_restored = settings.read_text() != earlier_settings
        return (
            f"settings of the LMS {'restored' if self.settings_restored else 'unchanged'}, "
            f"{restored_records or 'none'} of the connection's records "
            f"{'restored' if restored_records else 'changed'}, two course runs written again"
        )

    def _write_settings_and_records(self) -> int:
        """Creates the LMS or restores its settings and records. Returns how many of the records
        differed. Raises DemoError."""
        connection.make_lms(self.lms_home, self.lms_url, self.url)
        description = connection.describe(self.project.name, self.url, self.credentials)
        try:
            manage(self.lms_home, "seed_courses")
            out = manage(
                self.lms_home, "usher_provision", "--file", "-", text=description.to_json()
            )
        except FolderError as error:
            raise DemoError(str(error)) from error
        return int(json.loads(out)["changed"])

    def _connect_project(self, *, recheck: bool) -> str:
        """Creates tables, the LMS's OAuth2 client, course runs and the learner in the project. Sets
        ``learner``, and writes the file for the shell and the record that ``existing`` reads.
        Returns lines about the changes. Raises DemoError. recheck: as for ``steps``."""
        client_id, lms_accounts = self.credentials.lms_client_id, accounts_in(self.lms_home)
        is_new_lms = not (self.home / prepared.FILE_NAME).exists()
        refuse_accounts_of_another_lms = is_new_lms and not recheck
        report = self.project.ask(
            "prepare", client_id, refuse_accounts_of_another_lms, lms_accounts
        )
        if count := report["accounts_of_another_lms"]:
            amount = "an account" if count == 1 else f"{count} accounts"
            raise DemoError(
                f"Your project's database has {amount} of another LMS. No record was changed. Use "
                "another database, or create the accounts in the new LMS too:\n"
                "$ usher dev --recheck"
            )
        if "problem" in report:
            raise DemoError(f"{report['problem']}\nThen run `usher dev` again.")
        if report["to_link"]:
            self._link_learner(report["to_link"])
        if recheck:
            # The LMS isn't running yet, so the command fails after it has made the rows due. The
            # worker then reconciles them.
            self._run_manage("reconcile", "--recheck", allow_failure=True)
        self.learner = DevLearner(
            login=report["login"],
            password=self.credentials.learner_password,
            creation_error=report["creation_error"],
            login_name=report["login_name"],
        )
        self._write_environment_file()
        prepared.save_record(
            self.home,
            self._fingerprint(),
            project=str(self.project.folder),
            url=self.url,
            lms_url=self.lms_url,
        )
        records = "tables, OAuth2 client, course runs"
        if self.learner.login:
            records += " and learner"
        changes = ", ".join(report["changes"]) or f"{records} exist"
        error = self.learner.creation_error
        lines = [f"{changes}. {error}" if error else changes]
        if report["unknown_emails"]:
            lines.append(self._advice_about_unknown(report["unknown_emails"]))
        return "\n".join(lines)

    def _advice_about_unknown(self, addresses: list[str]) -> str:
        """Advice about learners' accounts in the LMS that are not in the project's database."""
        more = len(addresses) - _MAX_ADDRESSES
        list_of_addresses = ", ".join(addresses[:_MAX_ADDRESSES]) + (
            f" and {more} more" if more > 0 else ""
        )
        amount = "an account" if len(addresses) == 1 else f"{len(addresses)} accounts"
        load_environment = f". {shlex.quote(str(self.environment_file))}"
        file = shlex.quote(str(self.home / "users.csv"))
        return (
            f"The LMS has {amount} of learners that your database does not have: "
            f"{list_of_addresses}. Such a learner gets no second account with the same e-mail "
            "address. To keep an account, create the user in your project, and link the account. "
            f"In the folder of your project:\n$ {load_environment}\n"
            f"$ python manage.py adopt_users --to {file}\n"
            "If you don't need these accounts, stop `usher dev`, delete the LMS, and start "
            "`usher dev` "
            f"again:\n$ rm -r {shlex.quote(str(self.lms_home))}"
        )

    def _link_learner(self, username: str) -> None:
        """Links the test learner to their account in the LMS. Raises DemoError."""
        description = connection.describe(self.project.name, self.url, self.credentials)
        application = description.applications[0].name
        try:
            manage(
                self.lms_home,
                *("usher_link", "--username", username, "--application", application, "--move"),
            )
        except FolderError as error:
            raise DemoError(str(error)) from error

    def _start_servers(self) -> str:
        self._stop_servers()  # an earlier attempt may have started some
        self._start_all([self._create_lms_server(), *self._create_project_processes()])
        return f"{self.project.name} {self.url}, LMS {self.lms_url}, worker"

    def _wait_for_learner(self) -> str:
        """Waits until the worker has created the learner's account, token and enrollments in the
        LMS. Doesn't wait if the learner can't sign in: ``sign_in_problem`` has the reason. Raises
        DemoError if the LMS refuses the learner, or after ``_ENROLL_SECONDS``."""
        deadline = time.monotonic() + _ENROLL_SECONDS
        while True:
            self._require_all_running()
            state = self.project.ask("state")
            self.sign_in_problem = state["sign_in_problem"]
            if self.sign_in_problem:
                return f"{self.sign_in_problem} `usher dev` does not try to sign in."
            if state["problems"]:
                raise DemoError(
                    f"The LMS refused: {' '.join(state['problems'])}\n"
                    "If somebody changed its courses or records, restore them:\n"
                    "$ usher dev --provision"
                )
            if state["has_account"] and state["has_token"] and not state["waiting"]:
                self._username = state["username"]
                count = len(state["enrolled"])
                courses = "1 course" if count == 1 else f"{count or 'no'} courses"
                return f"LMS account {self._username}, enrolled in {courses}"
            if time.monotonic() > deadline:
                errors = " ".join(dict.fromkeys(state["errors"]))
                raise DemoError(
                    f"The learner is not enrolled in the LMS after {_ENROLL_SECONDS:.0f} s: "
                    f"{errors or 'no attempt of the worker failed.'} See {self.home}/worker.log."
                )
            time.sleep(0.2)

    def _sign_in(self) -> str:
        """Follows the LMS to the project's sign-in page. Then, with a session in the project, signs
        in to the LMS and opens the dashboard. Raises DemoError."""
        self._wait_until_ready()
        browser = Browser()
        try:
            page = browser.get(self.lms_url + social_login_path(DEFAULT_BACKEND))
            if page.status_code >= 400:
                raise DemoError(
                    f"{page.url.copy_with(query=None)}, where the LMS sends learners to sign in, "
                    f"answers {page.status_code}. Set LOGIN_URL to your sign-in page."
                )
            session = self.project.ask("session")
            # Python's cookie jar adds .local to a host name without a dot.
            domain = f"{PROJECT_HOST}.local"
            browser.client.cookies.set(session["cookie"], session["session"], domain)
            browser.get(self.lms_url + social_login_path(DEFAULT_BACKEND))
            page = browser.get(self.lms_url + LmsPath.DASHBOARD)
            is_dashboard = page.url.path == LmsPath.DASHBOARD and self._username in page.text
            if page.status_code != 200 or not is_dashboard:
                raise DemoError(
                    f"Signing in to the LMS ended at {page.url} ({page.status_code}), not at the "
                    f"learner's dashboard; see {self.home}/project.log and lms.log."
                )
        except httpx.HTTPError as error:
            self._require_all_running()  # names the cause if a server has ended
            raise DemoError(
                f"Signing in to the LMS failed: {error.request.url.copy_with(query=None)} gave no "
                f"answer: {error}. Look for the cause in {self.home}/project.log and lms.log, then "
                "run `usher dev` again."
            ) from error
        finally:
            browser.close()
        self.is_signed_in = True
        return "the learner signs in to the LMS through your project"

    # -- processes

    def _create_project_processes(self) -> list[ServerProcess]:
        """Returns the processes that run the project's code; ``follow_changes`` restarts these
        processes from now on."""
        self._notice_changes()
        self._files = self._files or ProjectFiles(self.project.folder)
        return [self._create_project_server(), self._create_worker()]

    def _create_project_server(self) -> ServerProcess:
        return self._create_process(
            _PROJECT,
            self.project.command("runserver", f"127.0.0.1:{self.ports.project}"),
            self.url + "/health/live",
        )

    def _create_worker(self) -> ServerProcess:
        """The worker as the project runs it in production: Celery if it has a broker."""
        if not self._celery:
            return self._create_process(_WORKER, self.project.command("reconcile", "--watch"))
        celery = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            self._celery,
            "worker",
            "--beat",
            "-l",
            "INFO",
        ]
        schedule = str(self.home / "beat-schedule")
        return self._create_process(
            _WORKER, [*celery, "--concurrency", "2", "--schedule", schedule]
        )

    def follow_changes(self) -> str:
        """Restarts the worker if a Python file of the project changed. Restarts the worker and the
        project's server if the ``.env`` changed. ``runserver`` itself reloads Python files.

        If the worker or the server has stopped by itself, the next change starts it again; before
        the first change, ``check`` raises an error instead. Also restarts a server that missed a
        change. Returns a message about these stops and starts, or about a server that does not
        answer; otherwise ''. Raises DemoError if the folder of the LMS was deleted."""
        changed = self._notice_changes()
        messages, restarted = [], []
        for process in self._servers:
            if not self._may_end(process):
                continue
            end_report = process.end_report()
            was_stopped = process.process is None
            is_started_by_any_change = was_stopped or end_report
            if _has_new_code(process, changed) or (changed and is_started_by_any_change):
                process.restart()
                if was_stopped:
                    restarted.append(process.name)
            elif end_report:
                process.stop()
                messages.append(end_report)
        if messages:
            subject = "It starts" if len(messages) == 1 else "They start"
            messages.append(f"{subject} again when a Python file or .env of your project changes.")
        if self._restart_server_that_missed_a_change():
            restarted.append(_PROJECT)
        elif report := self._report_silent_server():
            messages.append(report)
        if restarted:
            messages.append(f"{' and '.join(restarted)} started again.")
        return "\n".join(messages)

    def _restart_server_that_missed_a_change(self) -> bool:
        """Restarts the project's server if it does not listen some time after a change, at most
        once for each change. Returns whether it was restarted.

        ``runserver`` misses a file that is saved while it reloads the project. If the project could
        not run before this save, ``runserver`` reports the old error and waits for another save.
        If the worker has stopped since the change, the code is broken, and a start would fail."""
        changed_at = self._changed_at
        if changed_at == self._checked_change or not changed_at:
            return False
        self._silent_server = None  # an earlier failure no longer counts
        if time.monotonic() - changed_at < _LISTEN_SECONDS:
            return False
        if any(process.name == _WORKER and not process.process for process in self._servers):
            return False
        self._checked_change = changed_at
        for process in self._servers:
            is_running_server = process.name == _PROJECT and process.process
            if is_running_server and not is_listening(self.ports.project):
                process.restart()
                self._silent_server = process
                return True
        return False

    def _report_silent_server(self) -> str:
        """A message with the cause, once, if the project's server printed an error after
        ``_restart_server_that_missed_a_change`` and does not listen; otherwise ''. The worker may
        run nevertheless: it does not use the project's middleware."""
        server = self._silent_server
        if server is None:
            return ""
        is_silent = server.process is not None and not is_listening(self.ports.project)
        cause = server.logged_cause() if is_silent else ""
        if cause or not is_silent:
            self._silent_server = None
        if not cause:
            return ""
        return (
            f"{server.name} does not answer at {self.url}.{cause}\n"
            "It starts again when a Python file or .env of your project changes."
        )

    def _notice_changes(self) -> set[str]:
        """Records the time if files were changed since the last call, and returns their names.
        Raises DemoError if the folder of the LMS was deleted, as by ``git clean -fdx``."""
        changed = self._files.find_changed_names() if self._files else set()
        if self._lock is not None and not self.home.exists():
            raise DemoError(
                f"The folder {self.home}, which has the LMS's data, was deleted or moved while "
                "`usher dev` was running. The servers are stopped. Run `usher dev` again to create "
                "a new LMS."
            )
        if changed:
            self._changed_at = time.monotonic()
        return changed

    @property
    def has_changed(self) -> bool:
        """Whether a file of the project has changed since ``open``. If a step has failed, the
        change may be the cause: the step may have read a half-written file, or ``runserver`` may
        have been reloading the project."""
        return self._changed_at is not None

    def restart_after_recent_change(self) -> bool:
        """Looks for changes of the project. If the last change was so recently that ``runserver``
        may still be reloading the project, restarts processes that have ended or must read a
        changed file. Returns whether there was such a change.

        Without a recent change it restarts nothing; ``wait_for_change`` restarts ended processes at
        the next change. If they were started now, and a file were saved before they had read it,
        they would run the new code already and be restarted needlessly."""
        changed = self._notice_changes()
        changed_at = self._changed_at
        if changed_at is None or time.monotonic() - changed_at > _RELOAD_SECONDS:
            return False
        self._restart_changed(changed)
        return True

    def wait_for_change(self) -> None:
        """Waits until a file of the project changes, then restarts the processes that run its
        code."""
        while not (changed := self._notice_changes()):
            time.sleep(0.2)
        self._restart_changed(changed)

    def _restart_changed(self, changed: set[str]) -> None:
        """Restarts the processes that must read a changed file, or that have ended."""
        for process in self._servers:
            if not self._may_end(process):
                continue
            if _has_new_code(process, changed) or process.end_report():
                process.restart()

    def _may_end(self, process: ServerProcess) -> bool:
        """Whether the command continues if this process ends, because a change of the project may
        be the cause."""
        return self._changed_at is not None and process.name in (_PROJECT, _WORKER)

    def check(self) -> None:
        """Raises ProcessEnded if one of the processes has ended. After a change of the project,
        only the LMS is checked: the change may have ended the other processes, and
        ``follow_changes`` reports this."""
        for server in self._servers:
            if not self._may_end(server):
                server.check()

    def _wait_until_ready(self) -> None:
        """Returns when project and LMS answer. Raises ProcessEnded if a process has ended."""
        for server in self._servers:
            server.wait_until_ready(self._require_all_running)

    def _create_process(self, name: str, command: list[str], ready_url: str = "") -> ServerProcess:
        return ServerProcess(
            name=name,
            command=command,
            folder=self.project.folder,
            environment={**self.project.environment, "PYTHONUNBUFFERED": "1"},
            log=self.home / f"{name}.log",
            ready_url=ready_url,
        )

    def _create_lms_server(self) -> ServerProcess:
        return ServerProcess(
            name="lms",
            command=[
                *(sys.executable, "-m", "usher.embedded", "serve", str(self.lms_home)),
                *("--port", str(self.ports.lms)),
            ],
            folder=self.lms_home,
            environment={
                "USHER_LMS_HOME": str(self.lms_home),
                "DJANGO_SETTINGS_MODULE": "",  # this process's may be the project's
            },
            log=self.home / "lms.log",
            ready_url=self.lms_url + LmsPath.HEARTBEAT,
        )

    def _run_manage(self, *arguments: str, allow_failure: bool) -> None:
        """Runs the project's ``manage.py``. Raises DemoError if it fails and that isn't allowed."""
        finished = stop_with_parent.run(
            self.project.command(*arguments), self.project.folder, self.project.environment
        )
        if finished.returncode and not allow_failure:
            raise DemoError(f"`manage.py {arguments[0]}` failed: {finished.stderr[-2000:]}")

    # -- data of an earlier start

    def _fingerprint(self) -> str:
        """A string that changes with the addresses and secrets, and if the LMS's database is
        deleted."""
        has_database = (self.lms_home / "db.sqlite3").exists()
        return prepared.fingerprint(
            self.url, self.lms_url, repr(self.credentials), str(has_database)
        )


def _has_new_code(process: ServerProcess, changed: set[str]) -> bool:
    """Whether the process must be restarted to read these changed files. ``runserver`` itself
    reloads Python files."""
    return bool(changed) and (process.name == _WORKER or ENV_FILE in changed)


def _load_or_make_key(path: Path) -> str:
    """The key that signs ID tokens and sign-outs, as PEM on one line. The first call creates the
    key and the file ``path``; later calls read the file."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    try:
        return path.read_text()
    except FileNotFoundError:
        pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        text = pem.decode().strip().replace("\n", "\\n")
        write_private(path, text.encode())
        return text
