"""Accounts and tokens by the LMS's public APIs, for an LMS without ``usher.lms``.

The registration API makes the account: the LMS asks the application who the learner is, by an
access token that the agent wrote into the application's own table. Tokens come of a sign-in on
the learner's behalf, with a code that the agent writes into the application's grant table. The
application must be running: the LMS asks it in both cases.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from usher.client.authorization import AuthorizationFlow, AuthorizationRequest
from usher.client.errors import LmsError, Misconfigured, RegistrationRefused
from usher.client.ownership import is_younger, own_tokens
from usher.client.payloads import AccountSeen, TokenPair, moment
from usher.client.registration import register
from usher.contract.environment import Env
from usher.contract.failures import FailureClass, RegistrationError
from usher.contract.oauth import EDX_OAUTH_APP, SCOPE_USER_READ
from usher.sidecar.errors import SidecarError
from usher.sidecar.learners import Learner
from usher.sidecar.opening import Opened

#: Learners to a batch: their locks last longer than a batch takes.
SIZE = 64
#: Learners at a time, of those that failed for a moment: the LMS and the application may both be
#: small.
AT_ONCE_AGAIN = 4
#: Seconds between two reports of results to the caller, who records them: a run may be killed.
_RESULTS_EVERY = 1.0
#: Seconds. Each is used at once, by an application that may be busy.
_TOKEN_LIFE = 300
_CODE_LIFE = 300
_BYTES = 32
#: What the sidecar's own codes and tokens begin with. A run that was killed leaves them behind.
_OURS = "usher-"
#: For so long after an account was made, its registration may still be under way in the LMS.
_BEING_MADE = timedelta(minutes=10)
_APPLICATION = "oauth2_provider.Application"
_TOKEN = "oauth2_provider.AccessToken"  # noqa: S105 - a model
_GRANT = "oauth2_provider.Grant"
_TAKEN = (RegistrationError.DUPLICATE_USERNAME, RegistrationError.DUPLICATE_EMAIL_USERNAME)


@dataclass(frozen=True)
class OwnRecord:
    """The LMS's OAuth record in the application. landing: where the LMS sends codes for it."""

    pk: Any
    client_id: str
    redirect_uris: frozenset[str]
    landing: str


class PublicAccounts:
    """Use as a context manager. Call it with learners for their results, by primary key, in the
    batch API's form, those of each second; several pages may be under way at a time."""

    def __init__(self, sides: Opened) -> None:
        self._sides = sides
        self._reading = Lock()
        self._read: Grants | None = None
        self._pool = ThreadPoolExecutor(sides.concurrency, thread_name_prefix="learner")
        self._again = ThreadPoolExecutor(AT_ONCE_AGAIN, thread_name_prefix="again")

    def __enter__(self) -> PublicAccounts:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._again.shutdown(cancel_futures=True)

    @property
    def _grants(self) -> Grants:
        """Grants, made when first needed: an application without the record may have nobody due."""
        with self._reading:
            if self._read is None:
                self._read = Grants(self._sides, own_record(self._sides))
                _remove_expired(self._sides, self._read.record)
            return self._read

    def __call__(self, learners: Sequence[Learner]) -> Generator[dict[Any, dict[str, Any]]]:
        """Raises LmsError when the LMS refuses every learner alike, after the results of those who
        were done before."""
        new = [learner for learner in learners if not learner.made]
        with self._registration_tokens(new) as tokens:
            again = []
            for results in self._carried_out(learners, tokens, self._pool):
                passing = {key for key, result in results.items() if result.get("again")}
                again += [one for one in learners if one.pk in passing]
                yield {key: found for key, found in results.items() if key not in passing}
            if again:
                yield from self._carried_out(again, tokens, self._again)

    def _carried_out(
        self, learners: Sequence[Learner], tokens: Mapping[Any, str], pool: ThreadPoolExecutor
    ) -> Iterator[dict[Any, dict[str, Any]]]:
        futures = {pool.submit(self._one, one, tokens.get(one.pk, "")): one for one in learners}
        left, failed = set(futures), None
        try:
            while left and failed is None:
                done, left = wait(left, timeout=_RESULTS_EVERY)
                failed = next(filter(None, map(Future.exception, done)), None)
                if failed is not None:
                    # Of those who are under way, some may get their account all the same.
                    left = {future for future in left if not future.cancel()}
                    done |= wait(left).done
                good = [future for future in done if future.exception() is None]
                yield {futures[future].pk: future.result() for future in good}
        finally:
            for future in left:
                future.cancel()
        if failed is not None:
            raise failed

    def signed_in(
        self, learners: Sequence[Learner], do: Callable[[Learner, TokenPair], None]
    ) -> dict[Any, LmsError | None]:
        """Signs each learner in and calls a function with their token; returns what failed."""

        def one(learner: Learner) -> LmsError | None:
            try:
                do(learner, self.flow(learner).tokens())
            except LmsError as error:
                return error
            return None

        errors = self._pool.map(one, learners)
        return {learner.pk: error for learner, error in zip(learners, errors, strict=True)}

    def flow(self, learner: Learner) -> AuthorizationFlow:
        grants = self._grants
        return AuthorizationFlow(self._sides.lms, learner.pk, grants.record.landing, grants)

    @contextmanager
    def _registration_tokens(self, learners: Sequence[Learner]) -> Iterator[dict[Any, str]]:
        """Yields learner -> an access token of the application, which is deleted afterwards."""
        tokens = {learner.pk: _own_secret() for learner in learners}
        if not tokens:
            yield tokens
            return
        record = self._grants.record
        rows = [
            {
                "user_id": pk,
                "application_id": record.pk,
                "token": token,
                "scope": SCOPE_USER_READ,
                "expires": {"in": _TOKEN_LIFE},
            }
            for pk, token in tokens.items()
        ]
        keys = self._sides.agent.ask("make", model=_TOKEN, rows=rows)
        try:
            yield tokens
        finally:
            self._sides.agent.ask("remove", model=_TOKEN, keys=keys)

    def _one(self, learner: Learner, token: str) -> dict[str, Any]:
        try:
            if learner.made:
                return _result("exists", self.flow(learner).tokens())
            return self._register(learner, token)
        except LmsError as error:
            if error.failure_class is FailureClass.SYSTEMIC:
                raise
            return _failed(error)

    def _register(self, learner: Learner, token: str) -> dict[str, Any]:
        flow = self.flow(learner)
        try:
            made = self._registered(learner, token)
        except RegistrationRefused as error:
            if error.code not in _TAKEN:
                raise
            tokens = self._tokens_if_ours(learner, flow)
            if tokens is None:
                raise
            return _result("exists", tokens)
        try:
            return _result("created", flow.tokens(made))
        except LmsError as error:
            if error.failure_class is FailureClass.SYSTEMIC:
                raise
            return {**_result("created", None), "token_error": error.message}

    def _registered(self, learner: Learner, token: str) -> dict[str, str]:
        """The cookies of the new learner's session; once more without what the LMS refuses and
        does not need."""
        sent = learner
        for attempt in (0, 1):
            try:
                return register(
                    self._sides.lms,
                    username=sent.username,
                    email=sent.email,
                    name=sent.name or sent.username,
                    country=sent.country if len(sent.country) == 2 else "",
                    access_token=token,
                ).cookies
            except RegistrationRefused as error:
                if attempt:
                    raise
                if error.code == RegistrationError.INVALID_COUNTRY:
                    sent = replace(sent, country="")
                elif set(error.fields) == {"name"}:
                    sent = replace(sent, name=sent.username)
                else:
                    raise
        raise AssertionError("unreachable")

    def _tokens_if_ours(self, learner: Learner, flow: AuthorizationFlow) -> TokenPair | None:
        """Of an account that an earlier run made and could not record: it is younger than the
        learner here, has their e-mail address, and signing in through the application leads into
        it. An older one is not even tried: the platform links accounts of one e-mail address."""
        lms = self._sides.lms
        seen, since = lms.account(learner.username), moment(learner.since)
        if seen is None or since is None or not is_younger(seen, since):
            return None
        if seen.email.casefold() != learner.email.casefold():
            return None
        tokens = own_tokens(lms, flow, learner.username)
        if tokens is None and _is_new(seen):
            # A run that was killed has left the LMS in the middle of this registration.
            raise LmsError(
                f"The LMS made {learner.username} a moment ago and does not sign it in yet; the "
                "next run tries it again.",
                code="being-made",
            )
        return tokens


class Grants:
    """Codes of the application for the LMS. Threads that ask at the same time share a write."""

    def __init__(self, sides: Opened, record: OwnRecord) -> None:
        self._sides, self.record = sides, record
        self._waiting: list[tuple[AuthorizationRequest, Future[str]]] = []
        self._adding, self._writing = Lock(), Lock()

    def __call__(self, wanted: AuthorizationRequest) -> str:
        """Raises Misconfigured for another client or redirect URI than the LMS's own here."""
        self._check(wanted)
        mine: Future[str] = Future()
        with self._adding:
            self._waiting.append((wanted, mine))
        with self._writing:
            with self._adding:
                taken, self._waiting = self._waiting, []
            if taken:
                self._write(taken)
        return mine.result()

    def _write(self, taken: list[tuple[AuthorizationRequest, Future[str]]]) -> None:
        codes = [_own_secret() for _ in taken]
        rows = [
            {
                "user_id": wanted.user_id,
                "application_id": self.record.pk,
                "code": code,
                "expires": {"in": _CODE_LIFE},
                "redirect_uri": wanted.redirect_uri,
                "scope": SCOPE_USER_READ,
                "code_challenge": wanted.code_challenge,
                "code_challenge_method": wanted.code_challenge_method,
            }
            for code, (wanted, _) in zip(codes, taken, strict=True)
        ]
        try:
            self._sides.agent.ask("make", model=_GRANT, rows=rows)
        except SidecarError as error:
            for _, future in taken:
                future.set_exception(error)
            return
        for code, (_, future) in zip(codes, taken, strict=True):
            future.set_result(code)

    def _check(self, wanted: AuthorizationRequest) -> None:
        title = self._sides.adapter.title
        if wanted.client_id != self.record.client_id:
            raise Misconfigured(
                f"The LMS signs in with the client id {wanted.client_id[:100]}, but {title} knows "
                f"it as {self.record.client_id}: correct its provider record.",
                code="another-client",
            )
        if _without_state(wanted.redirect_uri) not in self.record.redirect_uris:
            raise Misconfigured(
                f"{_without_state(wanted.redirect_uri)[:200]} is not a redirect URI of the LMS's "
                f"OAuth application in {title}: add it there.",
                code="another-redirect-uri",
            )


def own_record(sides: Opened) -> OwnRecord:
    """Returns the LMS's OAuth record. Raises SidecarError when the application has none."""
    name = sides.agent.ask("settings", names=[Env.OPENEDX_OAUTH_APP_NAME])
    name = name[Env.OPENEDX_OAUTH_APP_NAME] or EDX_OAUTH_APP
    page = sides.agent.ask(
        "page",
        model=_APPLICATION,
        fields=["client_id", "redirect_uris"],
        filter=[{"name": name}],
        limit=1,
    )
    if not page["rows"]:
        raise SidecarError(
            f"{sides.adapter.title} has no OAuth application named {name!r} for the LMS; connect "
            "them first: usher connect"
        )
    (row,) = page["rows"]
    landing = sides.agent.ask("address", name=sides.adapter.landing)
    uris = frozenset(row["redirect_uris"].split())
    return OwnRecord(row["pk"], row["client_id"], uris, landing)


def _own_secret() -> str:
    return _OURS + secrets.token_urlsafe(_BYTES)


def _remove_expired(sides: Opened, record: OwnRecord) -> None:
    """Deletes expired codes and tokens of killed runs, and nobody else's."""
    for model, column in ((_TOKEN, "token"), (_GRANT, "code")):
        ours = {
            "application_id": record.pk,
            "expires__lt": {"ago": 0},
            f"{column}__startswith": _OURS,
        }
        pages = sides.agent.pages(model=model, fields=[column], filter=[ours], limit=500)
        for keys in [[row["pk"] for row in page["rows"]] for page in pages]:
            sides.agent.ask("remove", model=model, keys=keys)


def _is_new(seen: AccountSeen) -> bool:
    return seen.date_joined is not None and datetime.now(UTC) - seen.date_joined < _BEING_MADE


def _without_state(uri: str) -> str:
    """Returns an address without the ``state`` that python-social-auth adds to it."""
    parts = urlsplit(uri)
    query = [(k, v) for k, v in parse_qsl(parts.query) if k != "redirect_state"]
    return urlunsplit(parts._replace(query=urlencode(query)))


def _result(status: str, tokens: TokenPair | None) -> dict[str, Any]:
    return {"status": status, "error": None, "tokens": tokens}


def _failed(error: LmsError) -> dict[str, Any]:
    refused = error.failure_class is FailureClass.REJECTED
    told: dict[str, Any] = {"code": error.code, "message": error.message}
    if isinstance(error, RegistrationRefused):
        told |= {"fields": error.fields, "suggestions": error.suggestions}
    return {
        "status": "refused" if refused else "failed",
        "error": told,
        "tokens": None,
        "request_id": error.request_id,
        "again": error.failure_class is FailureClass.TRANSIENT,
    }
