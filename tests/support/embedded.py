"""A real embedded LMS in a process of its own, in a temporary folder, on a free port."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from usher.contract.paths import LmsPath
from usher.embedded.home import folder as folders
from usher.embedded.home.process import free_port, running_lms
from usher.embedded.replay import application

#: Nothing is limited, unless a test asks for it: tests share one address.
NO_LIMITS = {
    "API_THROTTLE_RATES": {
        family: {"user": None, "staff": None} for family in ("course_list", "enrollment")
    },
    "REGISTRATION_RATELIMIT": None,
    "REGISTRATION_VALIDATION_RATELIMIT": None,
    "LOGIN_AND_REGISTER_FORM_RATELIMIT": None,
    "LOGISTRATION_RATELIMIT_RATE": None,
    "RATELIMIT_RATE": None,
}


#: Reads scripts as JSON lines, runs each, answers with what it printed or how it failed.
_LOOP = """
import contextlib, io, json, sys, traceback
for line in sys.stdin:
    printed, failed = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(printed):
            exec(json.loads(line), {})
    except Exception:
        failed = traceback.format_exc()
    print(json.dumps([printed.getvalue(), failed]), flush=True)
"""


class _Shell:
    """Python in the LMS; one process for all scripts, because starting one takes a second."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(folder / "manage.py"), "shell", "--no-imports", "-c", _LOOP],
            env=folders.environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(script) + "\n")
        self.process.stdin.flush()
        printed, failed = json.loads(self.process.stdout.readline())
        assert not failed, failed
        return str(printed).strip()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@dataclass
class EmbeddedLms:
    """folder: its files; url: where it answers; provider: the small real OAuth provider for which
    ``code-NAME`` and ``tok-NAME`` are the learner NAME."""

    folder: Path
    url: str
    provider: str
    _shell: _Shell | None = None

    def manage(self, *arguments: str, text: str | None = None) -> str:
        return folders.manage(self.folder, *arguments, text=text)

    def shell(self, script: str) -> str:
        """Run Python in the LMS; returns what it printed."""
        self._shell = self._shell or _Shell(self.folder)
        return self._shell.run(script)

    def close(self) -> None:
        if self._shell is not None:
            self._shell.close()

    def browser(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def api(self, token: str = "service-worker-token") -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def register(self, name: str, /, **changed: str) -> httpx.Response:
        """As an application does it, with the learner's access token."""
        data = {
            "username": name,
            "email": f"{name}@learners.example",
            "name": f"Name {name}",
            "provider": "mitxpro-oauth2",
            "access_token": f"tok-{name}",
            "honor_code": "true",
            **changed,
        }
        with self.browser() as browser:
            return browser.post(LmsPath.REGISTRATION, data=data)

    def come_back(self, browser: httpx.Client, name: str, next_: str = "") -> httpx.Response:
        """Start sign-in in ``browser`` and come back from the application as ``name``."""
        params = {"auth_entry": "login", **({"next": next_} if next_ else {})}
        start = browser.get(LmsPath.sign_in_start("mitxpro-oauth2"), params=params)
        state = parse_qs(urlsplit(start.headers["Location"]).query)["state"][0]
        return browser.get(
            LmsPath.sign_in_complete("mitxpro-oauth2"),
            params={"redirect_state": state, "state": state, "code": f"code-{name}"},
        )

    def sign_in(self, browser: httpx.Client, name: str, next_: str = "") -> httpx.Response:
        """The last answer before the LMS leads to where the learner wanted to go."""
        answer = self.come_back(browser, name, next_)
        while answer.headers.get("Location", "").startswith("/auth/complete/"):
            answer = browser.get(answer.headers["Location"])
        return answer


@contextmanager
def embedded_lms(
    *, plugins: tuple[str, ...] = (), features: dict[str, Any] | None = None, **settings: Any
) -> Iterator[EmbeddedLms]:
    """In the state the recordings start from. settings go into ``lms.env.yml``."""
    folder = Path(tempfile.mkdtemp(prefix="usher-embedded-"))
    port = free_port()
    plan = folders.Plan(
        root_url=f"http://127.0.0.1:{port}",
        plugins=plugins,
        features=features or {},
        settings={**NO_LIMITS, **settings},
        cheap_passwords=True,
    )
    try:
        with application.running() as provider:
            folders.make(folder, plan)
            folders.manage(folder, "seed_recordings", "--application-url", provider)
            with (
                running_lms(folder, port) as url,
                closing(EmbeddedLms(folder, url, provider)) as lms,
            ):
                yield lms
    finally:
        shutil.rmtree(folder, ignore_errors=True)
