"""The application's own OAuth client at the LMS, used to obtain learners' tokens."""

from functools import partial

import httpx

from usher.contract.answers import json_object
from usher.contract.environment import SERVICE_CLIENTS, Env, ServiceEnv
from usher.contract.oauth import EDX_OAUTH_APP
from usher.contract.paths import ApplicationPath, LmsPath
from usher.contract.provisioning import RETIREMENT
from usher.contract.report import OAuthClient
from usher.doctor.check import (
    Check,
    Finding,
    check,
    failed,
    not_applicable,
    ok,
    quantity,
    skipped,
    warning,
)
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.fixes import CONNECT, manage

_REPAIR = manage("repair_missing_courseware_records")


def _clients(context: Context) -> list[OAuthClient]:
    """The OAuth clients of the LMS. Raises NotKnownError."""
    if "oauth_clients" not in context.lms.report:
        raise NotKnownError("the LMS does not report its OAuth clients")
    return context.lms.report["oauth_clients"]


def _own_client_id(context: Context) -> str:
    """The application's client id in the LMS. Raises NotKnownError without one."""
    client_id = context.application.setting(Env.OPENEDX_API_CLIENT_ID)
    if not client_id:
        raise NotKnownError(f"{Env.OPENEDX_API_CLIENT_ID} is not set yet")
    return client_id


def _own_redirect_uri(context: Context) -> str:
    """The redirect URI that provisioning registers for the application's client."""
    return context.application.url + ApplicationPath.LANDINGS[0]


@check
class ClientIdIsKnown(Check):
    """The LMS knows the client that obtains learners' tokens.

    Symptom: no learner's token can be renewed: `invalid_grant`, or `invalid_client`.
    Cause: the client's id changed, or its tokens were deleted.
    Fix: run `manage.py repair_missing_courseware_records`, which obtains new tokens.
    """

    id = "OAU-2"
    essential = True
    depends_on = ("ENV-1", "ENV-3", "NET-6")

    def probe(self, context: Context) -> Finding:
        client_id = _own_client_id(context)
        redirect_uri = _own_redirect_uri(context)
        clients_with_redirect_uri = [
            row for row in _clients(context) if redirect_uri in row.get("redirect_uris", [])
        ]
        is_known = any(row.get("client_id") == client_id for row in _clients(context))
        if not is_known and clients_with_redirect_uri:
            return self._failed(
                f"{clients_with_redirect_uri[0].get('name')} has another client id at the LMS than "
                f"{Env.OPENEDX_API_CLIENT_ID}",
                fix=f"{CONNECT}, then {_REPAIR}",
            )
        if not is_known:
            return skipped("the LMS does not know the client: see OAU-1")
        if useless_tokens := self._count_useless_tokens(context):
            return self._failed(
                "the LMS answers invalid_grant for the tokens of "
                f"{quantity(useless_tokens, 'learner')}",
                fix=_REPAIR,
            )
        return ok("learners' tokens belong to a client that the LMS knows")

    def _count_useless_tokens(self, context: Context) -> int:
        """The number of tokens that the LMS no longer renews; 0 if it is not known."""
        try:
            rows = context.application.errors("token", "invalid_grant", "invalid_client")
        except NotKnownError:
            return 0
        return sum(row.get("count", 0) for row in rows)

    def _failed(self, seen: str, *, fix: str) -> Finding:
        return failed(seen, cause="tokens of a deleted client can't be refreshed", fix=fix)


@check
class ApplicationClientIsComplete(Check):
    """The application's OAuth client in the LMS is complete.

    Symptom: learners' tokens can't be obtained.
    Cause: `edx-oauth-app` is missing, has another redirect address, is not confidential, or asks
    for consent.
    Fix: provision the LMS with `usher connect`, which creates or corrects the client.
    """

    id = "OAU-1"
    essential = True
    depends_on = ("OAU-2",)

    def probe(self, context: Context) -> Finding:
        client_id = _own_client_id(context)
        clients = [row for row in _clients(context) if row.get("client_id") == client_id]
        if not clients:
            return self._failed(f"the LMS has no {EDX_OAUTH_APP} with {Env.OPENEDX_API_CLIENT_ID}")
        client = clients[0]
        name = client.get("name")
        redirect_uri = _own_redirect_uri(context)
        if redirect_uri not in client.get("redirect_uris", []):
            return self._failed(f"{redirect_uri} is not among the redirect URIs of {name}")
        if client.get("client_type") != "confidential":
            return self._failed(f"{name} is {client.get('client_type')}, not confidential")
        if client.get("grant_type") != "authorization-code":
            return self._failed(
                f"{name} has the grant type {client.get('grant_type')}, not authorization-code"
            )
        if not client.get("skip_authorization"):
            return self._failed(f"{name} asks learners for consent")
        return self._check_secret(context, client_id)

    def _check_secret(self, context: Context, client_id: str) -> Finding:
        """Sends a refresh token that does not exist: the LMS answers 401 to a wrong secret, and 400
        to the right one."""
        secret = context.application.setting(Env.OPENEDX_API_CLIENT_SECRET)
        if not secret:  # not in the ``.env``, and the application reports no secrets
            return ok("the application's client in the LMS is complete")
        answer = context.web.request(
            "POST",
            context.lms.at(LmsPath.ACCESS_TOKEN),
            data={
                "grant_type": "refresh_token",
                "client_id": client_id,
                "client_secret": secret,
                "refresh_token": "doctor",
            },
        )
        if answer.status_code == 401:
            return self._failed(f"the LMS refuses {Env.OPENEDX_API_CLIENT_SECRET}")
        return ok("the application's client in the LMS is complete")

    def _failed(self, seen: str) -> Finding:
        return failed(
            seen,
            cause="the application's client was not made by provisioning, or was changed since",
            fix=CONNECT,
            repair="provision",
        )


@check
class ServiceClientsWork(Check):
    """The application's service clients work.

    Symptom: course runs can't be copied (`rerun_courserun`), learners can't be retired
    (`retire_users`): the LMS answers `unauthorized_client`, 403 or 404.
    Cause: MITx Online uses a separate OAuth client for each, with the grant
    `client_credentials`. The clients are missing, have another secret or act as an account without
    the rights, or bulk retirement is switched off.
    Fix: run `usher connect`, which creates both clients and writes them into the `.env`.
    """

    id = "OAU-3"
    depends_on = ("ENV-1", "ENV-3", "NET-6")

    def probe(self, context: Context) -> Finding:
        working_purposes = []
        for purpose, (key_of_id, key_of_secret) in SERVICE_CLIENTS.items():
            client_id = context.application.setting_in_env_file(key_of_id)
            secret = context.application.setting_in_env_file(key_of_secret)
            if not (client_id and secret):
                continue
            form = {
                "grant_type": "client_credentials",
                "token_type": "jwt",
                "client_id": client_id,
                "client_secret": secret,
            }
            token_url = context.lms.at(LmsPath.ACCESS_TOKEN)
            answer = context.web.request("POST", token_url, data=form)
            if answer.status_code != 200:
                return self._failed(f"the LMS refuses {key_of_id} ({_error_of(answer)})")
            token = str(answer.json()["access_token"])
            if problem := self._try_client(context, purpose, token):
                return problem
            working_purposes.append(purpose)
        if not working_purposes:
            return not_applicable("the application uses no client for course runs or retirement")
        return ok(f"clients for {' and '.join(working_purposes)} work")

    def _try_client(self, context: Context, purpose: str, token: str) -> Finding | None:
        """Uses the client for its purpose without changing anything: reads course runs, or retires
        an empty list of learners. Returns a finding about a problem, or None. Raises NotKnownError
        without Studio's address."""
        send = partial(context.web.request, token=token, scheme="JWT")
        if purpose == RETIREMENT:
            url = context.lms.at(LmsPath.BULK_RETIRE)
            answer = send("POST", url, json={"usernames": ""})
        else:
            url = _course_runs_url(context)
            try:
                answer = send("GET", url)
            except NotKnownError as error:
                return warning(
                    f"Studio does not answer: {error}",
                    cause="course runs are made and copied in Studio, which does not run or has "
                    "another address",
                    fix=f"start Studio, or correct {ServiceEnv.OPENEDX_STUDIO_API_BASE_URL}",
                )
        if answer.status_code == 200:
            return None
        return self._failed(
            f"the client for {purpose} does not work: {url} answers {answer.status_code}"
        )

    def _failed(self, seen: str) -> Finding:
        return failed(
            seen,
            cause="the client or its account was not made by provisioning, or was changed since",
            fix=CONNECT,
            repair="provision",
        )


def _course_runs_url(context: Context) -> str:
    """The address of Studio's course runs. Raises NotKnownError without Studio's address."""
    studio = context.application.setting(ServiceEnv.OPENEDX_STUDIO_API_BASE_URL)
    if not studio:
        raise NotKnownError(f"{ServiceEnv.OPENEDX_STUDIO_API_BASE_URL} is not set")
    return studio.rstrip("/") + LmsPath.STUDIO_COURSE_RUNS


def _error_of(answer: httpx.Response) -> str:
    return str(json_object(answer.content).get("error") or answer.status_code)
