"""Connecting without Tutor, to an embedded LMS that connect creates, starts and leaves running."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest

from tests.connect.machine import PASSWORD, records
from tests.connect.test_whole import CHECKS
from tests.support.checkout import VENV_BIN, PlainCheckout, free_port
from usher.connect.application.checkout import ApplicationOptions, recognise
from usher.connect.application.side import Addresses, Side, find
from usher.connect.connecting import Connecting, Options
from usher.connect.errors import Refused
from usher.connect.openedx import configuration
from usher.connect.openedx.configuration import Choice
from usher.connect.openedx.embedded import EmbeddedLms
from usher.connect.openedx.serving import Server
from usher.connect.opening import (
    CommandOptions,
    Opened,
    all_before,
    as_before,
    embedded_home,
    open_lms,
    with_defaults,
    with_earlier_options,
)
from usher.connect.process import Runner, Secrets
from usher.connect.saved_state import SavedState
from usher.connect.steps.embedded import EmbeddedSteps
from usher.contract import connections
from usher.contract.connections import Connection
from usher.contract.envfile import write_private


class Beside:
    """The plain application, and the folder of an embedded LMS that does not exist yet."""

    def __init__(self, shop: PlainCheckout) -> None:
        self.shop = shop
        self.lms = f"http://localhost:{free_port()}"
        self.home = shop.state / "usher/lms"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(VENV_BIN / "usher"), *words],
            capture_output=True,
            text=True,
            env=self.shop.environment,
            cwd=self.shop.state.parent,
            check=False,
        )

    def usher(self, *words: str, code: int = 0) -> dict[str, Any]:
        done = self.run(*words, "--yes", "--json")
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def connect(self, *more: str, code: int = 0) -> dict[str, Any]:
        words = ("--application", str(self.shop.folder), "--lms-url", self.lms)
        return self.usher("connect", *words, *more, code=code)

    def remembered(self) -> list[dict[str, str]]:
        return list(json.loads(self.run("status", "--json").stdout)["connections"])

    @property
    def lms_answers(self) -> bool:
        try:
            return httpx.get(f"{self.lms}/heartbeat", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """Kills the LMS, as when the machine is switched off."""
        os.killpg(int((self.home / "server.pid").read_text()), signal.SIGKILL)


@pytest.fixture
def beside(shop: PlainCheckout) -> Iterator[Beside]:
    made = Beside(shop)
    yield made
    made.run("disconnect", "--yes", "--purge")


@pytest.mark.slow
def test_connect_and_disconnect(beside: Beside):
    shop = beside.shop
    shop.make_learner("ada", PASSWORD)
    before = shop.tree()

    planned = beside.connect("--lms", "embedded", "--dry-run")
    assert "lms-folder" in {change["id"] for change in planned["plan"]["changes"] if change["due"]}
    assert not beside.home.exists()
    assert shop.tree() == before

    done = beside.connect("--lms", "embedded")
    assert {check["id"]: check["outcome"] for check in done["checks"]} == dict.fromkeys(
        CHECKS, "ok"
    )
    walked = next(check["seen"] for check in done["checks"] if check["id"] == "learner")
    assert walked.endswith("opened it, and was removed")
    assert any("provider record" in said for said in done["manual"]["done"])
    assert any("ids and secrets" in said for said in done["manual"]["unnecessary"])
    assert done["manual"]["left"] == []
    assert {name for name, data in shop.tree().items() if before.get(name) != data} == {".env"}
    open_to_others = [p for p in beside.home.iterdir() if p.suffix in {".json", ".yml"}]
    assert {path.stat().st_mode & 0o77 for path in open_to_others} == {0}

    (known,) = beside.remembered()
    assert (known["lms"], known["lms_home"]) == ("embedded", str(beside.home))
    assert known["verified"] >= known["connected"] > ""
    assert "embedded" in beside.run("status").stdout

    # Without --lms, and after the LMS was killed.
    assert beside.connect("--no-prove")["changed"] == []
    beside.kill()
    assert beside.connect("--no-prove")["changed"] == ["restart"]
    assert beside.lms_answers

    report = json.loads(beside.run("doctor", "--json").stdout)
    failed = [line["id"] for line in report["checks"] if line["status"] == "failed"]
    assert failed == []

    undone = beside.usher("disconnect")
    assert undone["ok"]
    assert not beside.lms_answers
    assert (beside.remembered(), records(shop)) == ([], [])
    assert shop.env_file.read_bytes() == before[".env"]
    assert not (beside.home / "usher.json").exists()


def test_connect_refuses_before_it_creates_anything(shop: PlainCheckout, tmp_path: Path):
    asked = CommandOptions(lms="embedded", applications=[ApplicationOptions(str(shop.folder))])
    with pytest.raises(Refused, match="can't be used with an embedded LMS"):
        open_lms(replace(asked, tutor_root=str(tmp_path)))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        url = f"http://localhost:{taken.getsockname()[1]}"
        with pytest.raises(Refused, match="can't be used"):
            open_lms(replace(asked, lms_url=url))
    assert not embedded_home().exists()


def test_the_lms_listens_on_every_interface_only_for_containers(shop: PlainCheckout):
    url = f"http://localhost:{free_port()}"
    in_containers = ApplicationOptions(str(shop.folder))
    opened = open_lms(CommandOptions(lms="embedded", lms_url=url, applications=[in_containers]))
    assert "every interface" in opened.warnings[0]
    assert "0.0.0.0" in server_of(opened).command
    by_hand = replace(in_containers, manage="python manage.py")
    opened = open_lms(CommandOptions(lms="embedded", lms_url=url, applications=[by_hand]))
    assert opened.warnings == []
    assert "127.0.0.1" in server_of(opened).command


def test_connecting_again_remembers_what_runs_the_lms(shop: PlainCheckout):
    asked = CommandOptions(applications=[ApplicationOptions(str(shop.folder))])
    assert as_before(asked) == asked
    place = {"lms": "embedded", "lms_home": "/lms"}
    connections.remember(Connection("shop", str(shop.folder), "http://localhost:1", **place))
    assert (as_before(asked).lms, as_before(asked).lms_home) == ("embedded", "/lms")
    assert with_defaults(asked).lms_home == "/lms"
    tutor = replace(asked, lms="tutor")
    assert as_before(tutor) == tutor


def test_connecting_again_takes_the_options_of_before(shop: PlainCheckout, tmp_path: Path):
    folder = str(shop.folder.resolve())
    before = {"target": folder, "name": "shop", "manage": "python manage.py", "url": "http://a:1"}
    SavedState(str(shop.env_file)).keep_subject({"wishes": before, "root": "/lms"})
    again = with_earlier_options(ApplicationOptions(str(shop.folder), url="http://a:2"))
    assert again == ApplicationOptions(
        folder, name="shop", manage="python manage.py", url="http://a:2"
    )
    # If it was interrupted before anything was connected, it continues with the same LMS.
    SavedState(str(shop.env_file)).keep_subject(
        {"wishes": before, "root": "/lms", "lms": "embedded"}
    )
    begun = as_before(CommandOptions(applications=[again]))
    assert (begun.lms, begun.lms_home) == ("embedded", "/lms")
    other = ApplicationOptions(str(tmp_path))
    assert with_earlier_options(other) == other
    assert all_before() == []
    for home in ("/lms", "/other"):
        place = {"lms": "embedded", "lms_home": home}
        connections.remember(Connection("shop", folder, "http://localhost:1", **place))
        if home == "/lms":
            assert all_before() == [ApplicationOptions(folder, name="shop")]
    with pytest.raises(Refused, match="several LMSs"):
        all_before()


@pytest.mark.slow
def test_an_application_without_containers_is_left_to_be_started(beside: Beside):
    """It can't be started before its ``.env`` is written."""
    shop = beside.shop
    shop.down()
    manage = f"{VENV_BIN / 'python'} manage.py"
    done = beside.run(
        *("connect", "--application", str(shop.folder), "--manage", manage, "--lms", "embedded"),
        *("--lms-url", beside.lms, "--yes"),
    )
    assert done.returncode == 3, done.stdout + done.stderr
    planned, applied = done.stdout.split("[1/", 1)
    assert f"OPENEDX_API_BASE_URL={beside.lms}" in planned
    assert "OPENEDX_API_CLIENT_SECRET=(secret)" in planned
    assert "OPENEDX_API_BASE_URL" not in applied  # once is enough
    assert "settings written" in applied
    assert "restart shop, so that it reads its .env again" in done.stdout
    assert f"nothing answers at {shop.url}" in done.stderr
    assert "Then run usher connect again" in done.stderr


def test_a_plan_lists_only_what_the_new_configuration_changes(shop: PlainCheckout):
    """Record and ``.env`` of the application do not depend on its address."""
    shop.down()
    lms_url = "http://lms.example:8000"
    lms = EmbeddedLms(shop.state / "lms", lms_url, Runner(Secrets()), open_to_containers=False)
    configuration.write(lms.config_file, lms.generated())
    addresses = Addresses(lms_url, lms_url, with_gateway=True)
    options = ApplicationOptions(str(shop.folder), url="http://other.example")
    side = Side(recognise(options), options, Secrets())
    side.probe(None, addresses)
    backend = Choice("ol-oauth2", "ol-oauth2")
    connecting = Connecting(lms, [(side, backend)], addresses, Options(), Runner(Secrets()))
    due = connecting.plan({}, running=False).due
    assert due >= {"lms-config", "lms-render", "record:shop", "env:shop"}

    entry = side.entry(backend, lms_in_containers=False)
    description = lms.described({configuration.APPLICATIONS: [entry]})
    side.write_record(find(description, "shop"), addresses)
    side.write_env(side.env_values(description, addresses))
    due = connecting.plan({}, running=False).due
    assert due >= {"lms-config", "lms-render"}
    assert not due & {"record:shop", "env:shop"}


def server_of(opened: Opened) -> Server:
    assert isinstance(opened.lms, EmbeddedLms)
    return opened.lms.server


def test_a_changed_configuration_must_be_rendered_again(tmp_path: Path):
    lms = EmbeddedLms(tmp_path, "http://localhost:1", Runner(Secrets()), open_to_containers=False)
    write_private(lms.config_file, b"USHER_SUPERUSER: ada\n")
    with patch.object(EmbeddedLms, "is_rendered", lambda _: True):
        assert EmbeddedSteps(lms, lambda: {"USHER_SUPERUSER": "ada"}).is_rendered()
        assert not EmbeddedSteps(lms, lambda: {"USHER_SUPERUSER": "bob"}).is_rendered()
