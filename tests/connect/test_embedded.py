"""Connecting without Tutor, to an embedded LMS that connect creates, starts and leaves running."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from tests.connect.machine import PASSWORD, oauth_clients
from tests.connect.test_whole import CHECKS
from tests.support.checkout import VENV_BIN, PlainCheckout, checkout_of, free_port
from usher.connect import development_server
from usher.connect.application.checkout import ApplicationOptions, recognise
from usher.connect.application.target import Addresses, TargetApplication, find_application
from usher.connect.connecting import Connecting, Options
from usher.connect.discovery import (
    CommandOptions,
    LmsContext,
    connected_applications,
    embedded_home,
    find_lms,
    with_defaults,
    with_earlier_lms,
    with_earlier_options,
)
from usher.connect.errors import Refused, ToolFailed
from usher.connect.openedx import configuration
from usher.connect.openedx.configuration import BackendChoice
from usher.connect.openedx.embedded import EmbeddedLms, url_of
from usher.connect.openedx.serving import Server
from usher.connect.plan import Plan
from usher.connect.process import Runner
from usher.connect.saved_state import SavedState
from usher.connect.steps.embedded import EmbeddedSteps
from usher.contract import connections, exits
from usher.contract.connections import Connection
from usher.contract.envfile import write_private
from usher.contract.secret_values import Secrets


class Operator:
    """An operator's commands, with the plain application and an embedded LMS that does not exist
    yet."""

    def __init__(self, shop: PlainCheckout) -> None:
        self.shop = shop
        self.lms = f"http://localhost:{free_port()}"
        self.home = shop.state / "usher/lms"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(VENV_BIN / "usher"), *arguments],
            capture_output=True,
            text=True,
            env=self.shop.environment,
            cwd=self.shop.state.parent,
            check=False,
        )

    def usher(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Runs ``usher … --yes --json`` and returns the printed object. code: the expected exit
        code."""
        result = self.run(*arguments, "--yes", "--json")
        assert result.returncode == code, f"{result.returncode}\n{result.stdout}\n{result.stderr}"
        return dict(json.loads(result.stdout.splitlines()[-1]))

    def connect(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        options = ("--application", str(self.shop.folder), "--lms-url", self.lms)
        return self.usher("connect", *options, *arguments, code=code)

    def saved_connections(self) -> list[dict[str, str]]:
        return list(json.loads(self.run("status", "--json").stdout)["connections"])

    @property
    def lms_answers(self) -> bool:
        return answers(f"{self.lms}/heartbeat")

    def kill(self) -> None:
        """Kills the LMS, as when the machine is switched off."""
        os.killpg(int((self.home / "server.pid").read_text()), signal.SIGKILL)


def answers(url: str) -> bool:
    """Whether a server answers at this address, without an error."""
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def operator(shop: PlainCheckout) -> Iterator[Operator]:
    """The operator of the shop. After the test, everything is disconnected and deleted."""
    operator = Operator(shop)
    yield operator
    operator.run("disconnect", "--yes", "--purge")


def test_a_plan_warns_of_a_session_cookie_that_application_and_lms_share(operator: Operator):
    def is_warned() -> bool:
        plan = operator.connect("--lms", "embedded", "--dry-run")["plan"]
        return any(
            "share a browser's session cookie, sessionid" in warning for warning in plan["warnings"]
        )

    settings = operator.shop.folder / "shop/settings.py"
    settings.write_text(settings.read_text().replace('"shop_session"', '"sessionid"'))
    assert not is_warned()
    operator.lms = operator.lms.replace("localhost", "127.0.0.1")
    assert is_warned()


@pytest.mark.slow
def test_connect_creates_an_embedded_lms_and_disconnect_stops_it(operator: Operator):
    shop = operator.shop
    shop.make_learner("ada", PASSWORD)
    original_files = shop.tree()

    # A dry run changes nothing.
    dry_run = operator.connect("--lms", "embedded", "--dry-run")
    due_changes = [change["id"] for change in dry_run["plan"]["changes"] if change["due"]]
    assert "lms-folder" in due_changes
    assert not operator.home.exists()
    assert shop.tree() == original_files

    # Connect creates the LMS, proves the connection, and changes only the .env.
    connected = operator.connect("--lms", "embedded")
    checks = {check["id"]: check for check in connected["checks"]}
    assert set(checks) == set(CHECKS)
    assert {check["outcome"] for check in checks.values()} == {"ok"}
    assert checks["learner"]["seen"].endswith("opened it, and was removed")
    assert any("provider record" in sentence for sentence in connected["manual"]["done"])
    assert any("ids and secrets" in sentence for sentence in connected["manual"]["unnecessary"])
    assert connected["manual"]["left"] == []
    changed_files = [name for name, data in shop.tree().items() if original_files.get(name) != data]
    assert changed_files == [".env"]
    secret_files = [file for file in operator.home.iterdir() if file.suffix in {".json", ".yml"}]
    assert secret_files
    for file in secret_files:
        assert file.stat().st_mode & 0o77 == 0, file  # only the owner can read it

    # The connection is recorded for other commands.
    (connection,) = operator.saved_connections()
    assert connection["lms"] == "embedded"
    assert connection["lms_home"] == str(operator.home)
    assert connection["verified"] >= connection["connected"] > ""
    assert "embedded" in operator.run("status").stdout

    # Connecting again needs no --lms, and restarts an LMS that was killed.
    assert operator.connect("--no-prove")["changed"] == []
    operator.kill()
    assert operator.connect("--no-prove")["changed"] == ["restart"]
    assert operator.lms_answers

    # Doctor finds nothing wrong.
    report = json.loads(operator.run("doctor", "--json").stdout)
    failed = [line["id"] for line in report["checks"] if line["status"] == "failed"]
    assert failed == []

    # Disconnect stops the LMS, also one that an earlier version of Usher created, and says what
    # stays.
    (operator.home / "made-of.txt").write_text("an earlier version\n")
    disconnected = operator.usher("disconnect")
    assert disconnected["changed"][:2] == ["lms-folder", "lms-records"]
    stays = disconnected["stays"]
    assert f"shop: {shop.env_file}, with your own settings" in stays
    assert f"LMS: its folder {operator.home}" in stays
    assert any("accounts, enrollments and progress" in sentence for sentence in stays)
    assert any("usher disconnect --lms embedded --purge" in sentence for sentence in stays)
    assert disconnected["ok"]
    assert not operator.lms_answers
    assert operator.saved_connections() == []
    assert oauth_clients(shop) == []
    assert shop.env_file.read_bytes() == original_files[".env"]
    assert not (operator.home / "usher.json").exists()

    # With --purge, it deletes the LMS.
    assert operator.usher("disconnect", "--lms", "embedded", "--purge")["changed"] == ["lms-files"]
    assert not operator.home.exists()


def make_kept_lms(home: Path) -> None:
    """Creates the files by which an embedded LMS in this folder is recognized."""
    home.mkdir(parents=True)
    (home / "made-of.txt").write_text("a version\n")
    (home / "lms.env.yml").write_text(f"LMS_ROOT_URL: http://localhost:{free_port()}\n")


def test_disconnect_deletes_an_embedded_lms_that_an_earlier_disconnection_kept(operator: Operator):
    make_kept_lms(operator.home)
    # Without --lms embedded, which LMS is meant is not certain; --purge deletes learners.
    result = operator.run("disconnect", "--purge", "--yes")
    text = " ".join(result.stdout.split())
    assert text == (
        "Nothing to do: no connection was made on this machine; the embedded LMS in "
        f"{operator.home} still exists; usher disconnect --lms embedded --purge deletes it, with "
        "its learners."
    )
    result = operator.run("disconnect", "--lms", "embedded", "--yes")
    assert "no application is connected here; the embedded LMS in" in result.stdout
    assert operator.home.exists()
    result = operator.run("disconnect", "--lms", "embedded", "--purge", "--yes")
    assert "The LMS is deleted." in result.stdout, result.stdout + result.stderr
    assert not operator.home.exists()


def test_an_embedded_lms_in_use_is_not_offered_for_deletion(operator: Operator, tmp_path: Path):
    make_kept_lms(operator.home)
    connections.remember(connection_of_shop("/shop", lms_home=str(operator.home)))
    result = operator.run("disconnect", "--lms", "tutor", "--application", str(tmp_path))
    assert result.stdout.startswith("Nothing to do: no connection of this application")
    assert "embedded LMS" not in result.stdout


def test_disconnect_takes_the_embedded_lms_of_an_interrupted_connect(operator: Operator):
    """Without options, disconnect finds this LMS. The connect was killed when it had saved its
    options, before it saved the connection."""
    shop = operator.shop
    make_kept_lms(operator.home)
    saved_state = SavedState(str(shop.env_file))
    options = {"target": str(shop.folder.resolve()), "name": "shop"}
    saved_state.save_application(options, root=str(operator.home), lms="embedded")
    result = operator.run("disconnect", "--dry-run")
    assert f"{operator.home}" in result.stdout, result.stdout + result.stderr
    without_options = CommandOptions()
    assert with_defaults(without_options).lms_home == str(operator.home)
    assert with_defaults(replace(without_options, lms="tutor")).lms_home == ""
    # A connection of another application is not taken in place of the interrupted one.
    connections.remember(connection_of_shop("/other", lms_home="/lms"))
    requested = CommandOptions(applications=[ApplicationOptions(str(shop.folder))])
    assert with_defaults(requested).lms_home == str(operator.home)


def test_a_refused_connect_to_an_embedded_lms_creates_no_folder(
    shop: PlainCheckout, tmp_path: Path
):
    options = CommandOptions(lms="embedded", applications=[ApplicationOptions(str(shop.folder))])
    with pytest.raises(Refused, match="can't be used with an embedded LMS"):
        find_lms(replace(options, tutor_root=str(tmp_path)))
    # Another program uses the port.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://localhost:{listener.getsockname()[1]}"
        with pytest.raises(Refused, match="can't be used"):
            find_lms(replace(options, lms_url=url))
    assert not embedded_home().exists()


def test_the_lms_listens_on_every_interface_only_for_containers(shop: PlainCheckout):
    url = f"http://localhost:{free_port()}"
    in_containers = ApplicationOptions(str(shop.folder))
    context = find_lms(CommandOptions(lms="embedded", lms_url=url, applications=[in_containers]))
    (warning,) = context.warnings
    assert "every interface" in warning
    assert "0.0.0.0" in server_of(context).command
    without_containers = replace(in_containers, manage="python manage.py")
    context = find_lms(
        CommandOptions(lms="embedded", lms_url=url, applications=[without_containers])
    )
    assert context.warnings == []
    assert "127.0.0.1" in server_of(context).command


def test_connecting_again_uses_the_embedded_lms_of_the_last_connection(shop: PlainCheckout):
    options = CommandOptions(applications=[ApplicationOptions(str(shop.folder))])
    assert with_earlier_lms(options) == options
    connections.remember(connection_of_shop(str(shop.folder), lms_home="/lms"))
    completed = with_earlier_lms(options)
    assert (completed.lms, completed.lms_home) == ("embedded", "/lms")
    assert with_defaults(options).lms_home == "/lms"
    # An embedded LMS in another folder would have none of the learners' accounts.
    assert with_earlier_lms(replace(options, lms="embedded")).lms_home == "/lms"
    with_tutor = replace(options, lms="tutor")
    assert with_earlier_lms(with_tutor) == with_tutor


def connection_of_shop(folder: str, *, lms_home: str) -> Connection:
    """The shop's connection to the embedded LMS in ``lms_home``."""
    return Connection(
        name="shop",
        application=folder,
        lms_url="http://localhost:1",
        lms="embedded",
        lms_home=lms_home,
    )


def test_connecting_again_uses_the_earlier_options(shop: PlainCheckout, tmp_path: Path):
    folder = str(shop.folder.resolve())
    earlier_options = {
        "target": folder,
        "name": "shop",
        "manage": "python manage.py",
        "url": "http://a:1",
    }
    SavedState(str(shop.env_file)).save_application(earlier_options, root="/lms", lms="")
    # A new option replaces the earlier one; the others are kept.
    completed = with_earlier_options(ApplicationOptions(str(shop.folder), url="http://a:2"))
    assert completed == ApplicationOptions(
        folder, name="shop", manage="python manage.py", url="http://a:2"
    )
    # If the earlier connect was interrupted before it connected anything, the same LMS is used.
    SavedState(str(shop.env_file)).save_application(earlier_options, root="/lms", lms="embedded")
    command_options = with_earlier_lms(CommandOptions(applications=[completed]))
    assert (command_options.lms, command_options.lms_home) == ("embedded", "/lms")
    other_application = ApplicationOptions(str(tmp_path))
    assert with_earlier_options(other_application) == other_application
    # Without --application, connect takes all connected applications, if they have one LMS.
    assert connected_applications() == []
    connections.remember(connection_of_shop(folder, lms_home="/lms"))
    assert connected_applications() == [ApplicationOptions(folder, name="shop")]
    connections.remember(connection_of_shop(folder, lms_home="/other"))
    with pytest.raises(Refused, match="several LMSs"):
        connected_applications()


def connect_without_containers(operator: Operator, manage: str) -> subprocess.CompletedProcess[str]:
    """Stops the application's containers and connects the application. manage: the command that
    runs its manage.py."""
    operator.shop.down()
    return operator.run(
        *("connect", "--application", str(operator.shop.folder), "--manage", manage),
        *("--lms", "embedded", "--lms-url", operator.lms, "--yes"),
    )


@pytest.mark.slow
def test_an_application_without_containers_runs_during_the_checks(operator: Operator):
    """The application can't start before its ``.env`` is written, so connect starts it for the
    checks."""
    shop = operator.shop
    result = connect_without_containers(operator, f"{VENV_BIN / 'python'} manage.py")
    assert result.returncode == 0, result.stdout + result.stderr
    plan_text, progress_text = result.stdout.split("[1/", 1)
    assert f"OPENEDX_API_BASE_URL={operator.lms}" in plan_text
    assert "OPENEDX_API_CLIENT_SECRET=(secret)" in plan_text
    assert "OPENEDX_API_BASE_URL" not in progress_text  # not printed twice
    assert "settings written" in progress_text
    log = shop.state / "usher/shop-server.log"
    text = " ".join(result.stdout.replace("\\\n", "").split())
    assert f"Starting shop for the checks; its log: {log}" in text
    assert log.stat().st_mode & 0o777 == 0o600
    assert "/oauth2/authorize/" in log.read_text()
    assert f"manage.py runserver --noreload 127.0.0.1:{shop.port})" in text
    assert "restart shop" not in result.stdout
    assert "✗" not in result.stdout
    with pytest.raises(httpx.ConnectError):
        httpx.get(shop.url, trust_env=False)
    (connection,) = operator.saved_connections()
    assert connection["verified"]


@pytest.mark.slow
def test_the_operator_must_start_an_application_whose_manage_py_another_program_runs(
    operator: Operator,
):
    result = connect_without_containers(operator, f"env {VENV_BIN / 'python'} manage.py")
    assert result.returncode == exits.UNFINISHED, result.stdout + result.stderr
    assert "restart shop, so that it reads its .env again" in result.stdout
    assert f"nothing answers at {operator.shop.url}" in result.stderr
    assert re.search("skipped +redirect-uri", result.stdout)
    assert "Then run `usher connect` again" in result.stderr


class ScriptedShop:
    """An application whose manage.py is a script of the test. site: the application's own
    address."""

    def __init__(self, folder: Path, script: str, site: str = "") -> None:
        self.port = free_port()
        (folder / "manage.py").write_text(script)
        self.secrets = Secrets()
        checkout = checkout_of(folder / "manage.py")
        self.target = TargetApplication(checkout, ApplicationOptions(str(folder)), self.secrets)
        self.target.facts = {"site": site or f"http://localhost:{self.port}"}

    def running_server(self) -> AbstractContextManager[development_server.StartedServer | None]:
        return development_server.running(self.target, for_containers=False)


def test_the_error_about_a_development_server_that_ends_has_the_end_of_its_log(tmp_path: Path):
    shop = ScriptedShop(tmp_path, "import sys; print('no database', 'pass-word-123'); sys.exit(7)")
    shop.secrets.add(["pass-word-123"])
    message = r"ended with 7(.|\n)*no database \(hidden\)"
    with pytest.raises(ToolFailed, match=message), shop.running_server():
        pass


#: A manage.py whose ``runserver`` answers 500 to every request.
SERVER_SCRIPT = """
import http.server, sys
host, port = sys.argv[-1].split(":")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(500)
http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"""


def test_an_application_whose_settings_lack_its_address_is_served_at_that_of_the_option(
    tmp_path: Path,
):
    shop = ScriptedShop(tmp_path, SERVER_SCRIPT)
    shop.target.facts = {"site": ""}
    shop.target.checkout = replace(
        shop.target.checkout, edition=None, url=f"http://localhost:{shop.port}"
    )
    with shop.running_server() as started:
        assert started is not None
        # The command is in parentheses if it first changes the folder or reads the .env.
        assert started.command.rstrip(")").endswith(f"127.0.0.1:{shop.port}")


def test_a_development_server_that_answers_500_counts_as_started_and_is_stopped(tmp_path: Path):
    shop = ScriptedShop(tmp_path, SERVER_SCRIPT)
    with shop.running_server() as started:
        assert started is not None
        assert started.command.startswith(f"(cd {tmp_path} && ")  # works in any folder
        assert httpx.get(shop.target.own_url, trust_env=False).status_code == 500
        with shop.running_server() as started_again:
            assert started_again is None  # it is served already
    with pytest.raises(httpx.ConnectError):
        httpx.get(shop.target.own_url, trust_env=False)


def test_connect_announces_a_development_server_before_it_waits_for_an_answer(tmp_path: Path):
    shop = ScriptedShop(tmp_path, "import sys; sys.exit(7)")
    announced: list[development_server.StartedServer] = []
    server = development_server.running(
        shop.target, for_containers=False, announce=announced.append
    )
    with pytest.raises(ToolFailed), server:
        pass
    assert [started.log.name for started in announced] == [f"{shop.target.name}-server.log"]


def test_the_application_is_served_at_the_loopback_address_of_its_name(tmp_path: Path):
    """Debian's /etc/hosts gives the machine's own name the address 127.0.1.1."""
    port = free_port()
    shop = ScriptedShop(tmp_path, SERVER_SCRIPT, site=f"http://127.0.1.1:{port}")
    with shop.running_server() as started:
        assert started is not None
        # The command is in parentheses if it changes to a folder.
        assert started.command.rstrip(")").endswith(f"127.0.1.1:{port}")


@pytest.mark.parametrize(
    "site",
    [
        "https://localhost:1",  # needs a server with HTTPS
        "http://localhost",  # port 80 needs a privileged user
        "http://shop.invalid:1",  # the name has no address
        "http://8.8.8.8:1",  # another machine
    ],
)
def test_no_server_is_started_for_an_address_that_it_could_not_serve(site: str, tmp_path: Path):
    with ScriptedShop(tmp_path, SERVER_SCRIPT, site=site).running_server() as started:
        assert started is None


def test_a_new_address_of_the_application_changes_only_the_configuration_of_the_lms(
    shop: PlainCheckout,
):
    """The application's record and its ``.env`` do not contain its own address."""
    shop.down()
    lms_url = "http://lms.example:8000"
    lms = EmbeddedLms(shop.state / "lms", lms_url, Runner(Secrets()), open_to_containers=False)
    configuration.write(lms.config_file, lms.generated_secrets())
    addresses = Addresses(lms_url, lms_url, lms_on_this_machine=True)
    options = ApplicationOptions(str(shop.folder), url="http://other.example")
    target = TargetApplication(recognise(options), options, Secrets())
    target.examine(application=None, addresses=addresses)
    backend = BackendChoice(name="ol-oauth2", known_backend="ol-oauth2")
    connecting = Connecting(lms, [(target, backend)], addresses, Options(), Runner(Secrets()))
    # Nothing is written yet.
    plan = connecting.plan({}, running=False)
    assert plan.due >= {"lms-config", "lms-render", "record:shop", "env:shop"}
    assert text_of_step(plan, "record:shop").startswith("create the OAuth client")

    # Record and .env are as the plan would write them. The LMS's configuration is still without
    # this application, as it is without a new address.
    entry = target.make_entry(backend, lms_in_containers=False)
    description = lms.description_after({configuration.APPLICATIONS: [entry]})
    target.write_record(find_application(description, "shop"), addresses)
    target.write_env(target.env_values(description, addresses))
    target.examine(application=None, addresses=addresses)
    plan = connecting.plan({}, running=False)
    assert plan.due >= {"lms-config", "lms-render"}
    assert not plan.due & {"record:shop", "env:shop"}
    # There is a record now, so the step would update it.
    assert text_of_step(plan, "record:shop").startswith("update the OAuth client")


def text_of_step(plan: Plan, step_id: str) -> str:
    """What the step does, as the plan says it."""
    return next(step.what for step in plan.steps if step.id == step_id)


def server_of(context: LmsContext) -> Server:
    assert isinstance(context.lms, EmbeddedLms)
    return context.lms.server


def test_a_changed_configuration_must_be_rendered_again(tmp_path: Path):
    lms = EmbeddedLms(tmp_path, "http://localhost:1", Runner(Secrets()), open_to_containers=False)
    write_private(lms.config_file, b"USHER_SUPERUSER: ada\n")
    with patch.object(EmbeddedLms, "is_rendered", lambda _: True):
        assert EmbeddedSteps(lms, lambda: {"USHER_SUPERUSER": "ada"}).is_rendered()
        assert not EmbeddedSteps(lms, lambda: {"USHER_SUPERUSER": "bob"}).is_rendered()


def test_malformed_files_of_an_embedded_lms_are_written_again(tmp_path: Path):
    lms = EmbeddedLms(tmp_path, "http://localhost:1", Runner(Secrets()), open_to_containers=False)
    configuration.write(lms.config_file, lms.generated_secrets())
    settings_file = tmp_path / "lms.env.yml"
    settings = lms._settings() | {"LMS_ROOT_URL": lms.lms_url}
    rendered_settings = yaml.safe_dump(settings).encode()
    rendered_description = lms._description_json().encode()
    settings_file.write_bytes(rendered_settings)
    lms.description_file.write_bytes(rendered_description)
    with patch.object(EmbeddedLms, "is_current", True):
        assert lms.is_rendered()
        expected = lms.description()
        for malformed in (b"", b"{", b"[]", b"\xff\t"):
            lms.description_file.write_bytes(malformed)
            assert not lms.is_rendered(), malformed
            # Removing a connection needs the description.
            assert lms.description() == expected, malformed
        lms.description_file.write_bytes(rendered_description)
        for malformed in (b"", b"a: [", b"[]", b"\xff\t"):
            settings_file.write_bytes(malformed)
            assert not lms.is_rendered(), malformed
            assert url_of(tmp_path) == "", malformed
    (tmp_path / "made-of.txt").write_bytes(b"\xff")
    assert lms.exists
    assert not lms.is_current


def test_the_port_of_a_running_lms_with_malformed_settings_is_not_refused(shop: PlainCheckout):
    home = embedded_home()
    home.mkdir(parents=True)
    (home / "lms.env.yml").write_text("[]")
    with socket.socket() as listener, (home / "server.lock").open("w") as lock:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://localhost:{listener.getsockname()[1]}"
        application = ApplicationOptions(str(shop.folder))
        options = CommandOptions(lms="embedded", lms_url=url, applications=[application])
        with pytest.raises(Refused, match="can't be used"):
            find_lms(options)
        fcntl.flock(lock, fcntl.LOCK_EX)  # as the LMS's process does
        assert find_lms(options).running


def test_a_malformed_configuration_is_refused_with_its_line(tmp_path: Path):
    lms = EmbeddedLms(tmp_path, "http://localhost:1", Runner(Secrets()), open_to_containers=False)
    lms.config_file.write_text("A: 1\nB: [\n")
    with pytest.raises(Refused, match=rf"{lms.config_file}, line 3: not YAML"):
        lms.generated_secrets()


def test_an_lms_whose_connect_was_killed_when_it_had_started_it_can_be_stopped(tmp_path: Path):
    home = tmp_path / "lms"
    address = f"http://localhost:{free_port()}"
    init = [sys.executable, "-m", "usher.embedded", "init", str(home), "--root-url", address]
    subprocess.run(init, capture_output=True, check=True)
    port = urlsplit(address).port
    assert port
    script = (
        "import os, pathlib, subprocess, sys\n"
        "from usher.connect.openedx.serving import Server\n"
        "class KilledAfterwards(subprocess.Popen):\n"
        "    def __init__(self, *arguments, **options):\n"
        "        super().__init__(*arguments, **options)\n"
        "        os.kill(os.getpid(), 9)\n"
        "subprocess.Popen = KilledAfterwards\n"
        "Server(pathlib.Path(sys.argv[1]), '127.0.0.1', int(sys.argv[2])).start()\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(home), str(port)], check=False)
    assert killed.returncode == -signal.SIGKILL
    server = Server(home, "127.0.0.1", port)
    assert server.is_running
    assert server.stop()
    assert not server.is_running
    assert not answers(f"{address}/heartbeat")
