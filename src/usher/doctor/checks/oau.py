"""The application's own OAuth client at the LMS, used to obtain learners' tokens."""

from usher.contract.environment import Env
from usher.contract.oauth import EDX_OAUTH_APP
from usher.contract.paths import ApplicationPath, LmsPath
from usher.contract.report import OAuthClient
from usher.doctor.check import Check, Finding, check, failed, ok, skipped
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.fixes import CONNECT, manage

_REPAIR = manage("repair_missing_courseware_records")


def _clients(context: Context) -> list[OAuthClient]:
    if "oauth_clients" not in context.lms.report:
        raise NotKnownError("the LMS does not report its OAuth applications")
    return context.lms.report["oauth_clients"]


def _own_client_id(context: Context) -> str:
    client_id = context.application.setting(Env.OPENEDX_API_CLIENT_ID)
    if not client_id:
        raise NotKnownError(f"{Env.OPENEDX_API_CLIENT_ID} is not set yet")
    return client_id


@check
class ClientIdIsKnown(Check):
    """The LMS knows the client used to obtain learners' tokens.

    Symptom: no learner's token can be renewed: `invalid_grant`, or `invalid_client`.
    Cause: the client's id changed, or its tokens were deleted.
    Fix: obtain new tokens by authorization.
    """

    id = "OAU-2"
    depends_on = ("ENV-1", "ENV-3", "NET-6")

    def probe(self, context: Context) -> Finding:
        client_id = _own_client_id(context)
        redirect = context.application.url + ApplicationPath.LANDINGS[0]
        others = [row for row in _clients(context) if redirect in row.get("redirect_uris", [])]
        known = any(row.get("client_id") == client_id for row in _clients(context))
        if not known and others:
            return self._failed(
                f"{others[0].get('name')} has another client id at the LMS than "
                f"{Env.OPENEDX_API_CLIENT_ID}",
                f"{CONNECT}, then {_REPAIR}",
            )
        if not known:
            return skipped("the LMS does not know the client: see OAU-1")
        if dead := self._dead(context):
            return self._failed(
                f"the LMS answers invalid_grant for {dead} learners' tokens",
                _REPAIR,
            )
        return ok("learners' tokens belong to a client that the LMS knows")

    def _dead(self, context: Context) -> int:
        try:
            rows = context.application.errors("token", "invalid_grant", "invalid_client")
        except NotKnownError:
            return 0
        return sum(row.get("count", 0) for row in rows)

    def _failed(self, seen: str, fix: str) -> Finding:
        return failed(seen, cause="tokens of a client that is gone can't be refreshed", fix=fix)


@check
class OwnClientIsRight(Check):
    """The application's OAuth client in the LMS is complete.

    Symptom: learners' tokens can't be obtained.
    Cause: `edx-oauth-app` is missing, has another redirect address, is not confidential, or asks
    for consent.
    Fix: provision, which creates or corrects it.
    """

    id = "OAU-1"
    depends_on = ("OAU-2",)

    def probe(self, context: Context) -> Finding:
        client_id = _own_client_id(context)
        found = [row for row in _clients(context) if row.get("client_id") == client_id]
        if not found:
            return self._failed(f"the LMS has no {EDX_OAUTH_APP} with {Env.OPENEDX_API_CLIENT_ID}")
        client, redirect = found[0], context.application.url + ApplicationPath.LANDINGS[0]
        name = client.get("name")
        if redirect not in client.get("redirect_uris", []):
            return self._failed(f"{redirect} is not among the redirect URIs of {name}")
        if client.get("client_type") != "confidential":
            return self._failed(f"{name} is {client.get('client_type')}, not confidential")
        if client.get("grant_type") != "authorization-code":
            return self._failed(f"{name} is for {client.get('grant_type')}")
        if not client.get("skip_authorization"):
            return self._failed(f"{name} asks learners for consent")
        return self._secret(context, client_id)

    def _secret(self, context: Context, client_id: str) -> Finding:
        secret = context.application.setting(Env.OPENEDX_API_CLIENT_SECRET)
        if not secret:
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
            cause="the LMS's OAuth application was not made by provisioning, or was changed since",
            fix=CONNECT,
            repair="provision",
        )
