"""Creates accounts and tokens with the LMS's public APIs, for an LMS without ``usher.lms``.

The registration API creates the account. The LMS requests the learner's details from the
application, with an access token that the agent wrote into the application's own table. Tokens are
obtained by a sign-in on the learner's behalf, with a code that the agent writes into the
application's grant table. The application must be running, since the LMS sends it requests in both
cases.
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

#: Learners in a batch: few enough that it ends before their locks expire.
SIZE = 64
#: Concurrent learners when those that failed temporarily are tried again: a small LMS or
#: application may have been overloaded.
AT_ONCE_AGAIN = 4
#: Seconds between two reports of results to the caller, which records them, since a run may be
#: killed.
_RESULTS_EVERY = 1.0
#: Seconds for which codes and tokens are valid. Each is used at once, but the application may be
#: busy.
_TOKEN_LIFE = 300
_CODE_LIFE = 300
_BYTES = 32
#: The prefix of the sidecar's own codes and tokens, by which those of a killed run are found.
_OURS = "usher-"
#: Seconds after an account's creation in which the LMS may still be processing its registration.
_BEING_MADE = timedelta(minutes=10)
_APPLICATION = "oauth2_provider.Application"
_TOKEN = "oauth2_provider.AccessToken"  # noqa: S105 - a model
_GRANT = "oauth2_provider.Grant"
_TAKEN = (RegistrationError.DUPLICATE_USERNAME, RegistrationError.DUPLICATE_EMAIL_USERNAME)


@dataclass(frozen=True)
class OwnRecord:
    """The LMS's OAuth record in the application. landing: the redirect URI of the application's own
    client in the LMS."""

    pk: Any
    client_id: str
    redirect_uris: frozenset[str]
    landing: str


class PublicAccounts:
    """Call it with a page of learners: it yields results about once a second, primary key → result
    in the batch API's form. Several pages may be in progress at a time. Use it as a context
    manager."""

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
        """Grants, created when first needed: if nobody is due, the application needs no OAuth
        record."""
        with self._reading:
            if self._read is None:
                self._read = Grants(self._sides, own_record(self._sides))
                _remove_expired(self._sides, self._read.record)
            return self._read

    def __call__(self, learners: Sequence[Learner]) -> Generator[dict[Any, dict[str, Any]]]:
        """Raises LmsError if the LMS refuses all learners for the same reason, after it has yielded
        earlier results."""
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
                    # Requests in progress may still create accounts.
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
        """Signs each learner in and calls ``do`` with the learner's tokens. Returns primary key →
        error, or None."""

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
        """Yields primary key → an access token of the application; deletes the tokens
        afterwards."""
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
        """Registers the learner and returns the cookies of the session. If the LMS refuses a value
        that it does not need, tries once more without it."""
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
        """The tokens of an account that an earlier run created and could not record; None if it is
        not the learner's. It is the learner's if it is younger than the learner here, has the same
        e-mail address, and signing in through the application leads to it. Sign-in is not tried for
        an older account, since the platform would link it because of the e-mail address."""
        lms = self._sides.lms
        seen, since = lms.account(learner.username), moment(learner.since)
        if seen is None or since is None or not is_younger(seen, since):
            return None
        if seen.email.casefold() != learner.email.casefold():
            return None
        tokens = own_tokens(lms, flow, learner.username)
        if tokens is None and _is_new(seen):
            # A killed run may have begun this registration, which the LMS has not finished.
            raise LmsError(
                f"The LMS made {learner.username} a moment ago and does not sign it in yet; the "
                "next run tries it again.",
                code="being-made",
            )
        return tokens


class Grants:
    """Issues authorization codes of the application for the LMS. Threads that call it at the same
    time share one write."""

    def __init__(self, sides: Opened, record: OwnRecord) -> None:
        self._sides, self.record = sides, record
        self._waiting: list[tuple[AuthorizationRequest, Future[str]]] = []
        self._adding, self._writing = Lock(), Lock()

    def __call__(self, wanted: AuthorizationRequest) -> str:
        """A new code. Raises Misconfigured unless the client and redirect URI are those of the
        LMS's record."""
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
    """Returns the LMS's OAuth record. Raises SidecarError if the application has none."""
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
    """Deletes the expired codes and tokens of killed runs, and no others."""
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
    """Returns the redirect URI without the ``state`` that python-social-auth adds."""
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
