"""Sends the requests of the expectations to an LMS, in their order, and compares the answers."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

import httpx

from usher.contract.paths import LmsPath
from usher.doctor.conformance.answers import Answer, deviations
from usher.doctor.conformance.expectations import Expectation
from usher.doctor.conformance.shapes import names_in

Verdict = Literal["agrees", "deviates", "unknown"]
#: ``{name}`` or ``{name:raw}`` in a request.
_PLACEHOLDER = re.compile(r"\{(?P<name>\w+)(?P<raw>:raw)?\}")


@dataclass(frozen=True)
class CheckedExpectation:
    """An expectation and the result of its request.

    verdict: ``agrees``, ``deviates``, or ``unknown`` if the request was not sent or not
    answered. reasons: deviations, or why the verdict is unknown."""

    expectation: Expectation
    verdict: Verdict
    reasons: tuple[str, ...] = ()


@dataclass
class ExpectationChecker:
    """Checks an LMS against the expectations. tokens: actor → token. values: name → the value of
    ``{name}`` in requests. why_missing: name → why its value is unknown, or the option that gives
    it. modes: the modes of the run ``course``. session: a client with the test learner's cookies,
    or None."""

    client: httpx.Client
    values: dict[str, str] = field(default_factory=dict, repr=False)
    tokens: dict[str, str] = field(default_factory=dict, repr=False)
    modes: frozenset[str] = frozenset()
    session: httpx.Client | None = None
    why_missing: dict[str, str] = field(default_factory=dict)

    def check(
        self, expectations: tuple[Expectation, ...], *, write: bool
    ) -> Iterator[CheckedExpectation]:
        """Yields each expectation with its result. write: whether to send requests that change the
        LMS."""
        for expectation in expectations:
            if reason := self._reason_to_skip(expectation, write=write):
                yield CheckedExpectation(expectation, "unknown", (reason,))
            else:
                yield self._check_one(expectation)

    def _check_one(self, expectation: Expectation) -> CheckedExpectation:
        """Sends the request, compares the answer, and stores its values that later requests need.
        The result is unknown if there is no answer, or if the LMS throttles requests or has not
        enabled the feature."""
        try:
            answer = Answer.of(self.send(expectation))
        except httpx.HTTPError as error:
            reason = f"no answer: {error or type(error).__name__}"
            return CheckedExpectation(expectation, "unknown", (reason,))
        if answer.status == 429 and expectation.status != 429:
            reason = "the LMS throttles requests: try again in a minute"
            return CheckedExpectation(expectation, "unknown", (reason,))
        if answer.status == 404 and expectation.feature:
            reason = f"this LMS has not enabled {expectation.feature}"
            return CheckedExpectation(expectation, "unknown", (reason,))
        sentences = deviations(expectation, answer, self.values)
        self._store_values(expectation, answer)
        verdict: Verdict = "deviates" if sentences else "agrees"
        return CheckedExpectation(expectation, verdict, tuple(sentences))

    def _store_values(self, expectation: Expectation, answer: Answer) -> None:
        """Stores values of the answer's ``Location`` or body, which later requests use."""
        for name, expression in expectation.keep.items():
            text = f"{answer.headers.get('location', '')} {json.dumps(answer.body)}"
            if match := re.search(expression, text):
                self.values[name] = match[1]

    def _reason_to_skip(self, expectation: Expectation, *, write: bool) -> str:
        """Why the request can't or must not be sent; '' if it is sent."""
        if expectation.skip_reason:
            return expectation.skip_reason
        if expectation.writes and not write:
            return "it changes the LMS: give --write"
        if missing := names_in(expectation.request) - set(self.values):
            name = min(missing)
            return self.why_missing.get(name, f"{name.replace('_', ' ')} is not known")
        if expectation.needs_mode and expectation.needs_mode not in self.modes:
            return f"the run does not offer the mode {expectation.needs_mode}"
        if not self._has_credentials_for(expectation.actor):
            return self.why_missing.get(expectation.actor, f"no token of {expectation.actor}")
        return ""

    def _has_credentials_for(self, actor: str) -> bool:
        if actor == "learner_session":
            return self.session is not None
        if actor == "learner":
            return "learner" in self.tokens or self.session is not None
        return actor in ("nobody", *self.tokens)

    def send(self, expectation: Expectation) -> httpx.Response:
        """The LMS's answer to one request. Raises httpx.HTTPError if there is none."""
        request = expectation.request
        headers = dict(request.get("headers", {}))
        client = self.client
        if token := self.tokens.get(expectation.actor):
            headers["Authorization"] = f"Bearer {token}"
        elif expectation.actor.startswith("learner") and self.session is not None:
            client = self.session
            headers |= csrf_headers(self.session)
        if request["path"] == LmsPath.REGISTRATION and (worker_token := self.tokens.get("worker")):
            # An LMS with a connected application accepts registrations from that application only.
            headers["X-Access-Token"] = worker_token
        if client is self.client:
            client.cookies.clear()  # the token alone must decide who sends the request
        return client.request(
            request["method"],
            self._fill(request["path"], in_path=True),
            params=self._fill(request.get("params")),
            data=self._fill(request.get("form")),
            json=self._fill(request.get("json")),
            content=request.get("raw"),
            headers=headers,
        )

    def _fill(self, template: Any, *, in_path: bool = False) -> Any:
        """Replaces ``{name}`` in a part of a request by the value. in_path: quotes the values;
        ``{name:raw}`` keeps ``+`` and ``:``."""
        if isinstance(template, str):
            replacement = self._quoted_value if in_path else self._value
            return _PLACEHOLDER.sub(replacement, template)
        if isinstance(template, dict):
            return {key: self._fill(part) for key, part in template.items()}
        if isinstance(template, list):
            return [self._fill(part) for part in template]
        return template

    def _value(self, placeholder: re.Match[str]) -> str:
        return self.values[placeholder["name"]]

    def _quoted_value(self, placeholder: re.Match[str]) -> str:
        safe_characters = "+:" if placeholder["raw"] else ""
        return quote(self._value(placeholder), safe=safe_characters)


def csrf_headers(session: httpx.Client) -> dict[str, str]:
    """The headers that Django's CSRF protection requires of requests with cookies."""
    tokens = [cookie.value for cookie in session.cookies.jar if cookie.name == "csrftoken"]
    headers = {"Referer": str(session.base_url)}
    return {**headers, "X-CSRFToken": tokens[-1] or ""} if tokens else headers
