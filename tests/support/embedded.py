"""An embedded LMS in the state from which the recordings of the real one start."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.support.django_process import DjangoProcess
from tests.support.served import NO_LIMITS, served_lms
from usher.contract.paths import LmsPath
from usher.embedded.replay import application


@dataclass
class EmbeddedLms:
    """A served LMS. folder: its files. url: its address. django: its manage.py. provider: the
    address of a small OAuth provider, whose code ``code-NAME`` and token ``tok-NAME`` belong to the
    learner NAME."""

    folder: Path
    url: str
    django: DjangoProcess
    provider: str

    def manage(self, *arguments: str, text: str = "") -> str:
        """Runs a management command and returns its output. text: its standard input. Raises
        DjangoProcessError if it fails."""
        return self.django.command(*arguments, text=text).checked()

    def shell(self, script: str) -> str:
        """Runs Python in the LMS and returns its output. Raises DjangoProcessError if it fails."""
        return self.django.run(script).strip()

    def browser(self) -> httpx.Client:
        """A client that keeps cookies and follows no redirects."""
        return httpx.Client(base_url=self.url, timeout=120, trust_env=False)

    def api(self, token: str = "service-worker-token") -> httpx.Client:
        """A client whose requests have this access token, by default the service worker's."""
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, trust_env=False)

    def register(self, name: str, /, **changed: str) -> httpx.Response:
        """Registers the learner ``name`` with an access token of the application, as an application
        does. Returns the LMS's answer. changed: fields of the form."""
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

    def return_from_provider(
        self, browser: httpx.Client, name: str, next_: str = ""
    ) -> httpx.Response:
        """Starts sign-in in ``browser``, and returns from the provider as the learner ``name``.
        Returns the LMS's answer without following redirects. next_: the path to open after
        sign-in."""
        params = {"auth_entry": "login", **({"next": next_} if next_ else {})}
        start = browser.get(LmsPath.sign_in_start("mitxpro-oauth2"), params=params)
        state = parse_qs(urlsplit(start.headers["Location"]).query)["state"][0]
        return browser.get(
            LmsPath.sign_in_complete("mitxpro-oauth2"),
            params={"redirect_state": state, "state": state, "code": f"code-{name}"},
        )

    def sign_in(self, browser: httpx.Client, name: str, next_: str = "") -> httpx.Response:
        """Signs in as the learner ``name``. Returns the last answer of the sign-in, which redirects
        to ``next_``, by default to the dashboard."""
        answer = self.return_from_provider(browser, name, next_)
        while answer.headers.get("Location", "").startswith("/auth/complete/"):
            answer = browser.get(answer.headers["Location"])
        return answer


@contextmanager
def embedded_lms(
    *, plugins: tuple[str, ...] = (), features: dict[str, Any] | None = None, **settings: Any
) -> Iterator[EmbeddedLms]:
    """A served LMS in the start state of the recordings. settings: for ``lms.env.yml``."""
    with (
        application.running() as provider,
        served_lms(
            *("seed_recordings", "--application-url", provider),
            plugins=plugins,
            features=features,
            **{**NO_LIMITS, **settings},
        ) as lms,
    ):
        yield EmbeddedLms(lms.folder, lms.url, lms.django, provider)
