"""Creates accounts and tokens with the LMS's public APIs, for an LMS without ``usher.lms``.

The registration API creates the account. The LMS requests the learner's details from the
application, with an access token that the agent wrote into the application's own table. Tokens are
obtained by a sign-in on the learner's behalf, with a code that the agent writes into the
application's grant table. The application must be running, since the LMS sends it requests during
registration and sign-in.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from usher.client.authorization import AuthorizationFlow, AuthorizationRequest
from usher.client.errors import LmsError, Misconfigured, RegistrationRefused
from usher.client.ownership import joined_after, tokens_by_sign_in
from usher.client.payloads import ObservedAccount, TokenPair, moment
from usher.client.registration import register
from usher.contract.environment import Env
from usher.contract.failures import FailureClass, RegistrationError
from usher.contract.oauth import EDX_OAUTH_APP, SCOPE_USER_READ
from usher.sidecar.errors import SidecarError
from usher.sidecar.learners import Learner
from usher.sidecar.session import Session

#: Learners in a batch: few enough that the batch ends before the learners' locks expire.
BATCH_SIZE = 64
#: The number of learners processed at a time when temporary failures are tried again: a small LMS
#: or application may have been overloaded.
RETRY_CONCURRENCY = 4
#: Seconds between two reports of results. The caller records each report, so that a killed sidecar
#: loses few results.
_SECONDS_BETWEEN_RESULTS = 1.0
#: Seconds for which codes and tokens are valid. Each is used immediately, but the application may
#: be busy.
_TOKEN_SECONDS = 300
_CODE_SECONDS = 300
_SECRET_BYTES = 32
#: The prefix of the sidecar's own codes and tokens. It identifies codes and tokens that a killed
#: sidecar left.
_SECRET_PREFIX = "usher-"  # noqa: S105 - a prefix
#: The time after an account's creation in which the LMS may still be processing its registration.
_REGISTRATION_TIME = timedelta(minutes=10)
# Models of the OAuth toolkit, as the agent's requests name them.
_APPLICATION = "oauth2_provider.Application"
_TOKEN = "oauth2_provider.AccessToken"  # noqa: S105 - a model
_GRANT = "oauth2_provider.Grant"
_NAME_TAKEN_CODES = (
    RegistrationError.DUPLICATE_USERNAME,
    RegistrationError.DUPLICATE_EMAIL_USERNAME,
)


@dataclass(frozen=True)
class LmsRecord:
    """The LMS's OAuth record in the application. landing_url: the redirect URI of the application's
    own client in the LMS."""

    pk: Any
    client_id: str
    redirect_uris: frozenset[str]
    landing_url: str


class PublicAccounts:
    """Creates LMS accounts and tokens with the public API. An instance is called with a page of
    learners. It yields results about once a second: primary key → result in the batch API's form.
    Several pages may be in progress at a time. Use it as a context manager."""

    def __init__(self, session: Session) -> None:
        self._session = session
        # Created by the first use of ``_grants``.
        self._grants_lock = Lock()
        self._cached_grants: Grants | None = None
        self._pool = ThreadPoolExecutor(session.concurrency, thread_name_prefix="learner")
        #: For learners who failed temporarily, see RETRY_CONCURRENCY.
        self._retry_pool = ThreadPoolExecutor(RETRY_CONCURRENCY, thread_name_prefix="retry")

    def __enter__(self) -> PublicAccounts:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._retry_pool.shutdown(cancel_futures=True)

    @property
    def _grants(self) -> Grants:
        """The grants. The first use creates them, because the application needs no OAuth record if
        nobody is due, and deletes expired codes and tokens of a killed sidecar."""
        with self._grants_lock:
            if self._cached_grants is None:
                self._cached_grants = Grants(self._session, find_lms_record(self._session))
                _remove_expired(self._session, self._cached_grants.record)
            return self._cached_grants

    def __call__(self, learners: Sequence[Learner]) -> Generator[dict[Any, dict[str, Any]]]:
        """Yields the results of ``learners``. Those who failed temporarily are tried once more
        after the others, and only their second result is yielded. Raises LmsError if the LMS
        refuses all learners for the same reason, after yielding the results so far."""
        new_learners = [learner for learner in learners if not learner.has_account]
        with self._registration_tokens(new_learners) as tokens:
            keys_to_retry = set()
            for results in self._process(learners, tokens, self._pool):
                final_results = {}
                for key, result in results.items():
                    if result.get("should_retry"):
                        keys_to_retry.add(key)
                    else:
                        final_results[key] = result
                yield final_results
            learners_to_retry = [learner for learner in learners if learner.pk in keys_to_retry]
            if learners_to_retry:
                yield from self._process(learners_to_retry, tokens, self._retry_pool)

    def _process(
        self, learners: Sequence[Learner], tokens: Mapping[Any, str], pool: ThreadPoolExecutor
    ) -> Iterator[dict[Any, dict[str, Any]]]:
        """Yields results about once a second. tokens: primary key → an access token of the
        application, for learners without an account. Raises the first error that concerns all
        learners, after the requests in progress have ended."""
        learner_of = {
            pool.submit(self._create_one, learner, tokens.get(learner.pk, "")): learner
            for learner in learners
        }
        pending = set(learner_of)
        error: BaseException | None = None
        try:
            while pending and error is None:
                finished, pending = wait(pending, timeout=_SECONDS_BETWEEN_RESULTS)
                error = _first_error(finished)
                if error is not None:
                    # Wait for requests in progress: they may still create accounts.
                    pending = {future for future in pending if not future.cancel()}
                    finished |= wait(pending).done
                successful = [future for future in finished if future.exception() is None]
                yield {learner_of[future].pk: future.result() for future in successful}
        finally:
            for future in pending:
                future.cancel()
        if error is not None:
            raise error

    def sign_in_each(
        self, learners: Sequence[Learner], action: Callable[[Learner, TokenPair], None]
    ) -> dict[Any, LmsError | None]:
        """Signs each learner in and calls ``action`` with the learner and the learner's tokens.
        Returns primary key → the LmsError of sign-in or action, or None."""

        def sign_in(learner: Learner) -> LmsError | None:
            try:
                action(learner, self.make_flow(learner).tokens())
            except LmsError as error:
                return error
            return None

        errors = self._pool.map(sign_in, learners)
        return {learner.pk: error for learner, error in zip(learners, errors, strict=True)}

    def make_flow(self, learner: Learner) -> AuthorizationFlow:
        """Returns a sign-in to the LMS on the learner's behalf. Raises SidecarError if the
        application has no OAuth record of the LMS."""
        grants = self._grants
        return AuthorizationFlow(self._session.lms, learner.pk, grants.record.landing_url, grants)

    @contextmanager
    def _registration_tokens(self, learners: Sequence[Learner]) -> Iterator[dict[Any, str]]:
        """Yields primary key → an access token of the application; deletes the tokens
        afterwards."""
        if not learners:
            yield {}
            return
        tokens = {learner.pk: _new_secret() for learner in learners}
        record = self._grants.record
        rows = [
            {
                "user_id": pk,
                "application_id": record.pk,
                "token": token,
                "scope": SCOPE_USER_READ,
                "expires": {"in": _TOKEN_SECONDS},
            }
            for pk, token in tokens.items()
        ]
        keys = self._session.agent.ask("make", model=_TOKEN, rows=rows)
        try:
            yield tokens
        finally:
            self._session.agent.ask("remove", model=_TOKEN, keys=keys)

    def _create_one(self, learner: Learner, token: str) -> dict[str, Any]:
        """Creates the account, if it does not exist, and a token; returns the result. Raises only
        errors that concern all learners."""
        try:
            if learner.has_account:
                return _result("exists", self.make_flow(learner).tokens())
            return self._register(learner, token)
        except LmsError as error:
            if error.failure_class is FailureClass.SYSTEMIC:
                raise
            return _failed_result(error)

    def _register(self, learner: Learner, token: str) -> dict[str, Any]:
        """Creates the account and a token, and returns the result. If the username is taken, the
        account may be one that an earlier pass created and could not record. Raises LmsError if
        there is no account afterwards; a missing token is part of the result."""
        flow = self.make_flow(learner)
        try:
            cookies = self._register_with_lms(learner, token)
        except RegistrationRefused as error:
            if error.code not in _NAME_TAKEN_CODES:
                raise
            tokens = self._tokens_of_unrecorded_account(learner, flow)
            if tokens is None:
                raise
            return _result("exists", tokens)
        try:
            return _result("created", flow.tokens(cookies))
        except LmsError as error:
            if error.failure_class is FailureClass.SYSTEMIC:
                raise
            return {**_result("created", tokens=None), "token_error": error.message}

    def _register_with_lms(self, learner: Learner, token: str) -> dict[str, str]:
        """Registers the learner and returns the cookies of the session. If the LMS refuses an
        optional value, tries once more without this value."""

        def register_as(learner: Learner) -> dict[str, str]:
            return register(
                self._session.lms,
                username=learner.username,
                email=learner.email,
                name=learner.name or learner.username,
                country=learner.country_code,
                access_token=token,
            ).cookies

        try:
            return register_as(learner)
        except RegistrationRefused as error:
            if error.code == RegistrationError.INVALID_COUNTRY:
                return register_as(replace(learner, country=""))
            if set(error.fields) == {"name"}:
                return register_as(replace(learner, name=learner.username))
            raise

    def _tokens_of_unrecorded_account(
        self, learner: Learner, flow: AuthorizationFlow
    ) -> TokenPair | None:
        """Returns the tokens of an account that an earlier pass created and could not record; None
        if the account is not the learner's.

        The account is the learner's if it is younger than the application's own record of the
        learner, has the same e-mail address, and a sign-in through the application leads to it.
        Sign-in is not tried for an older account: the platform would link that account to the
        learner because of the e-mail address. Raises LmsError with the code ``being-made`` if the
        LMS is still creating the account.
        """
        lms = self._session.lms
        account = lms.account(learner.username)
        named_at = moment(learner.named_at)
        if account is None or named_at is None or not joined_after(account, named_at):
            return None
        if account.email.casefold() != learner.email.casefold():
            return None
        tokens = tokens_by_sign_in(lms, flow, learner.username)
        if tokens is None and _may_be_registering(account):
            # A killed sidecar may have begun this registration, which the LMS has not finished.
            raise LmsError(
                f"The LMS created {learner.username} a moment ago and can't sign it in yet; the "
                "next run tries it again.",
                code="being-made",
            )
        return tokens


@dataclass(frozen=True)
class WaitingRequest:
    """A request whose code is not stored yet. code: the thread that made the request waits for
    it."""

    request: AuthorizationRequest
    code: Future[str]


class Grants:
    """Issues authorization codes of the application for the LMS. Threads that call it at the same
    time share one write."""

    def __init__(self, session: Session, record: LmsRecord) -> None:
        self._session = session
        self.record = record
        #: The requests whose codes the next write stores.
        self._waiting: list[WaitingRequest] = []
        self._waiting_lock = Lock()
        self._write_lock = Lock()

    def __call__(self, request: AuthorizationRequest) -> str:
        """Returns a new code. Raises Misconfigured unless the client id and redirect URI are the
        same as in the LMS's record, and SidecarError if the code can't be stored."""
        self._check(request)
        own = WaitingRequest(request, Future())
        with self._waiting_lock:
            self._waiting.append(own)
        # While one thread writes, others append their requests and wait here. The next of them
        # writes all these requests, and the rest find nothing to write.
        with self._write_lock:
            with self._waiting_lock:
                batch = self._waiting
                self._waiting = []
            if batch:
                self._write(batch)
        return own.code.result()

    def _write(self, batch: list[WaitingRequest]) -> None:
        """Stores a code for each request, and gives each thread its code, or the error of the
        write."""
        codes = [_new_secret() for _ in batch]
        rows = []
        for waiting, code in zip(batch, codes, strict=True):
            rows.append(
                {
                    "user_id": waiting.request.user_id,
                    "application_id": self.record.pk,
                    "code": code,
                    "expires": {"in": _CODE_SECONDS},
                    "redirect_uri": waiting.request.redirect_uri,
                    "scope": SCOPE_USER_READ,
                    "code_challenge": waiting.request.code_challenge,
                    "code_challenge_method": waiting.request.code_challenge_method,
                }
            )
        try:
            self._session.agent.ask("make", model=_GRANT, rows=rows)
        except SidecarError as error:
            for waiting in batch:
                waiting.code.set_exception(error)
            return
        for waiting, code in zip(batch, codes, strict=True):
            waiting.code.set_result(code)

    def _check(self, request: AuthorizationRequest) -> None:
        """Raises Misconfigured, as ``__call__`` describes."""
        title = self._session.adapter.title
        redirect_uri = _without_state(request.redirect_uri)
        # The request's values are cut, because another server may have sent them.
        if request.client_id != self.record.client_id:
            raise Misconfigured(
                f"The LMS signs in with the client id {request.client_id[:100]}, but {title} knows "
                f"it as {self.record.client_id}: correct the LMS's provider record.",
                code="another-client",
            )
        if redirect_uri not in self.record.redirect_uris:
            raise Misconfigured(
                f"{redirect_uri[:200]} is not a redirect URI of the LMS's "
                f"OAuth client in {title}: add it there.",
                code="another-redirect-uri",
            )


def find_lms_record(session: Session) -> LmsRecord:
    """Returns the LMS's OAuth record. Raises SidecarError if the application has none."""
    settings = session.agent.ask("settings", names=[Env.OPENEDX_OAUTH_APP_NAME])
    name = settings[Env.OPENEDX_OAUTH_APP_NAME] or EDX_OAUTH_APP
    page = session.agent.ask(
        "page",
        model=_APPLICATION,
        fields=["client_id", "redirect_uris"],
        filter=[{"name": name}],
        limit=1,
    )
    if not page["rows"]:
        raise SidecarError(
            f"{session.adapter.title} has no OAuth client named {name!r} for the LMS; connect "
            "them first: `usher connect`"
        )
    (row,) = page["rows"]
    landing_url = session.agent.ask("address", name=session.adapter.landing_url_name)
    uris = frozenset(row["redirect_uris"].split())
    return LmsRecord(row["pk"], row["client_id"], redirect_uris=uris, landing_url=landing_url)


def _first_error(futures: Iterable[Future[Any]]) -> BaseException | None:
    """Returns the error of one of the finished futures; None if all succeeded."""
    for future in futures:
        error = future.exception()
        if error is not None:
            return error
    return None


def _new_secret() -> str:
    """Returns a random code or token with the sidecar's prefix."""
    return _SECRET_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def _remove_expired(session: Session, record: LmsRecord) -> None:
    """Deletes the expired codes and tokens that a killed sidecar left, and no others."""
    for model, column in ((_TOKEN, "token"), (_GRANT, "code")):
        condition = {
            "application_id": record.pk,
            "expires__lt": {"ago": 0},
            f"{column}__startswith": _SECRET_PREFIX,
        }
        pages = session.agent.pages(model=model, fields=[column], filter=[condition], limit=500)
        # All pages are read before the first row is deleted.
        for page in list(pages):
            keys = [row["pk"] for row in page["rows"]]
            session.agent.ask("remove", model=model, keys=keys)


def _may_be_registering(account: ObservedAccount) -> bool:
    """Whether the account is so new that the LMS may still be processing its registration."""
    return (
        account.date_joined is not None
        and datetime.now(UTC) - account.date_joined < _REGISTRATION_TIME
    )


def _without_state(uri: str) -> str:
    """Returns the redirect URI without the ``state`` that python-social-auth adds."""
    parts = urlsplit(uri)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != "redirect_state"]
    return urlunsplit(parts._replace(query=urlencode(query)))


def _result(status: str, tokens: TokenPair | None) -> dict[str, Any]:
    """Returns a success in the batch API's form. status: ``created`` or ``exists``. tokens: None if
    the LMS issued none."""
    return {"status": status, "error": None, "tokens": tokens}


def _failed_result(error: LmsError) -> dict[str, Any]:
    """Returns a refusal or failure in the batch API's form, and whether to try it again now."""
    refused = error.failure_class is FailureClass.REJECTED
    error_data: dict[str, Any] = {"code": error.code, "message": error.message}
    if isinstance(error, RegistrationRefused):
        error_data |= {"fields": error.fields, "suggestions": error.suggestions}
    return {
        "status": "refused" if refused else "failed",
        "error": error_data,
        "tokens": None,
        "request_id": error.request_id,
        "should_retry": error.failure_class is FailureClass.TRANSIENT,
    }
