"""Replays recordings in order against an LMS that is started for them."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from usher.contract.paths import LmsPath
from usher.embedded.home import folder as folders
from usher.embedded.home.process import running_lms
from usher.embedded.replay import application
from usher.embedded.replay.compare import KnownValues, find_differences
from usher.embedded.replay.recordings import Recording

LMS_ROOT = "http://lms.example:8000"
APPLICATION_ROOT = "http://app.example:8013"
_TIMEOUT = httpx.Timeout(30)


@dataclass(frozen=True)
class ReplayResult:
    """A recording that was sent to the LMS. differences: between the LMS's answer and the recorded
    one; empty if they agree."""

    recording: Recording
    differences: list[str]

    @property
    def agrees(self) -> bool:
        return not self.differences


class _StateSetter:
    """The process that changes the LMS's data between recordings."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Waits until the process has created the start state. Raises RuntimeError if it fails."""
        self.process = process
        #: ``provider`` and ``service_worker`` of ``given``, as set last; {} for the initial states.
        self.current_records: dict[str, Any] = {}
        self._read_answer()

    def _read_answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None  # noqa: S101 - created with a pipe
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                "the LMS's state for the recordings could not be created; see the messages above"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def set_records(self, given: dict[str, Any]) -> None:
        """Set the states of the LMS's provider record and service worker: the states that ``given``
        names, by default the initial ones. Raises RuntimeError for a state that can't be
        created."""
        records: dict[str, Any] = {
            name: given[name] for name in ("provider", "service_worker") if name in given
        }
        if records == self.current_records:
            return
        assert self.process.stdin is not None  # noqa: S101 - created with a pipe
        self.process.stdin.write(json.dumps(records) + "\n")
        self.process.stdin.flush()
        answer = self._read_answer()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        self.current_records = records


@contextmanager
def _state_setter(home: Path, application_url: str) -> Iterator[_StateSetter]:
    command = [sys.executable, str(home / "manage.py"), "seed_recordings", "--set-records"]
    process = subprocess.Popen(
        [*command, "--application-url", application_url],
        env=folders.environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield _StateSetter(process)
    finally:
        process.terminate()
        process.communicate()


def _authorization_code(answer: httpx.Response) -> str:
    """The code in a redirect to the application, or ''."""
    target = urlsplit(answer.headers.get("Location", ""))
    return parse_qs(target.query).get("code", [""])[0] if target.netloc else ""


class Player:
    """An LMS in the start state of the recordings; ``play`` replays them in order."""

    def __init__(self, home: Path, address: str, state_setter: _StateSetter) -> None:
        self.home, self.address, self.state_setter = home, address, state_setter
        self.known_values = KnownValues()
        #: Session of recordings → the client with its cookies.
        self.browsers: dict[str, httpx.Client] = defaultdict(self._new_client)
        # Shared by all clients, because its creation reads every certificate.
        self._tls = httpx.create_ssl_context()
        #: The last request that the LMS answered with an authorization code, and its browser.
        self.authorize_request: tuple[httpx.Client, dict[str, Any]] | None = None

    def _new_client(self) -> httpx.Client:
        # Requests have the recorded host name, so the LMS's answers have it too.
        headers = {"Host": LMS_ROOT.removeprefix("http://")}
        return httpx.Client(
            base_url=self.address, headers=headers, timeout=_TIMEOUT, verify=self._tls
        )

    def _send(self, client: httpx.Client, request: dict[str, Any]) -> httpx.Response:
        """Send a recorded request, with the random values of this replay."""
        translate = self.known_values.translate
        headers = {name: translate(value) for name, value in request.get("headers", {}).items()}
        options: dict[str, Any] = {"headers": headers}
        data = request.get("data")
        if isinstance(data, dict):
            options["data"] = {name: translate(str(value)) for name, value in data.items()}
        elif data is not None:
            options["content"] = translate(data).encode()
        if "json" in request:
            options["json"] = json.loads(translate(json.dumps(request["json"])))
        if "params" in request:
            options["params"] = request["params"]
        return client.request(request["method"], translate(request["path"]), **options)

    def play(self, recording: Recording) -> ReplayResult:
        """Send the recorded request and compare the answers. A state that can't be created is
        reported as a difference."""
        try:
            self._prepare(recording)
        except RuntimeError as error:
            return ReplayResult(recording, [str(error)])
        if recording.session:
            client = self.browsers[recording.session]
            answer = self._send(client, recording.request)
            if _authorization_code(answer):
                self.authorize_request = client, recording.request
        else:
            with self._new_client() as client:
                answer = self._send(client, recording.request)
        sentences = find_differences(recording.response, answer, self.known_values)
        if sentences and answer.status_code == 500:
            log = (self.home / "server.log").read_text(errors="replace").strip()
            sentences.append(f"the LMS's log ends: {log[-1500:]}")
        return ReplayResult(recording, sentences)

    def _prepare(self, recording: Recording) -> None:
        """Create the state that the recording requires; raise RuntimeError if that is not possible.
        Rate limits are reset, because the pauses between the recorded requests are unknown."""
        given = recording.given
        unknown = set(given) - {
            "provider",
            "service_worker",
            "course_list_requests_in_this_minute",
            "registrations_from_this_address",
        }
        if unknown:
            raise RuntimeError(f"this state is unknown: {', '.join(sorted(unknown))}")
        self.state_setter.set_records(given)
        shutil.rmtree(self.home / "cache", ignore_errors=True)
        self._fetch_code(recording)
        with self._new_client() as client:
            for _ in range(given.get("course_list_requests_in_this_minute", 0)):
                self._send(client, recording.request)
            for number in range(given.get("registrations_from_this_address", 0)):
                self._register(client, number)

    def _fetch_code(self, recording: Recording) -> None:
        """Obtain a new authorization code for a request that sends one: the recorded code can't be
        used again."""
        data = recording.request.get("data")
        code = data.get("code", "") if isinstance(data, dict) else ""
        accepted = recording.response["status"] == 200  # a refused code is sent as recorded
        if self.authorize_request and accepted and code and code not in self.known_values:
            browser, request = self.authorize_request
            self.known_values[code] = _authorization_code(self._send(browser, request))

    def _register(self, client: httpx.Client, number: int) -> None:
        """Register another learner, so that the rate limit counts a registration from this
        address. number: distinguishes these learners."""
        name = f"before_{number}"
        data = {
            "username": name,
            "email": f"{name}@learners.example",
            "name": name,
            "provider": "mitxpro-oauth2",
            "access_token": f"tok-{name}",
            "honor_code": "true",
        }
        answer = client.post(LmsPath.REGISTRATION, data=data)
        if answer.status_code != 200:
            raise RuntimeError(
                f"registration {number}, which the recording requires, failed: {answer.text}"
            )


@contextmanager
def running_player() -> Iterator[Player]:
    """Start the LMS and the application, each on a free port; stop both at the end of the block."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usher-replay-")))
        provider = stack.enter_context(application.running())
        plan = folders.Plan(
            root_url=LMS_ROOT,
            application_url=APPLICATION_ROOT,
            # The recorded LMS had this plugin, which sends anonymous visitors to the application.
            plugins=("openedx_companion_auth",),
            cheap_passwords=True,
            settings={
                "EMBEDDED_RUNS_HAVE_CONTENT": False,
                "CACHES": {
                    "default": {
                        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
                        "LOCATION": str(home / "cache"),
                    }
                },
            },
        )
        folders.make(home, plan)
        state_setter = stack.enter_context(_state_setter(home, provider))
        address = stack.enter_context(running_lms(home))
        player = Player(home, address, state_setter)
        yield player
        for browser in player.browsers.values():
            browser.close()
