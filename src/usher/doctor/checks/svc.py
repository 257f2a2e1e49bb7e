"""The service worker."""

from datetime import datetime, timedelta

from usher.contract.answers import json_object
from usher.contract.environment import Env
from usher.contract.paths import LmsPath, in_path
from usher.doctor.check import Check, Finding, check, failed, ok, quantity, skipped, warning
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.fixes import CONNECT, PROVISION, lms_manage, setting

#: A token that expires within this time is reported. Weekly provisioning renews it before.
_SOON = timedelta(days=14)


def _owner_of_token(context: Context) -> str:
    """The username of the service worker's token, according to the LMS. Raises NotKnownError."""
    username = json_object(context.lms.me.content).get("username")
    if not isinstance(username, str) or not username:
        raise NotKnownError(f"{LmsPath.ME} of the LMS names no user")
    return username


@check
class TokenIsAccepted(Check):
    """The LMS accepts the service worker's token.

    Symptom: the LMS answers every request with 401.
    Cause: the token is wrong or has expired.
    Fix: run `usher connect` again, which writes a valid token to the LMS and to the `.env`.
    """

    id = "SVC-1"
    essential = True
    depends_on = ("ENV-1", "NET-1", "NET-6")

    def probe(self, context: Context) -> Finding:
        answer = context.lms.me
        if answer.status_code == 200:
            return ok("the LMS accepts the token")
        if "token_expired" in answer.text:
            return self._failed(
                "the service worker's token expired",
                cause="it was not renewed; regular provisioning, for example every week, renews it",
            )
        return self._failed(
            f"the LMS refuses the service worker's token: {LmsPath.ME} answers "
            f"{answer.status_code}",
            cause=f"{Env.OPENEDX_SERVICE_WORKER_API_TOKEN} is not a token of this LMS",
        )

    def _failed(self, seen: str, *, cause: str) -> Finding:
        return failed(seen, cause=cause, fix=CONNECT, repair="provision")


@check
class TokenBelongsToServiceWorker(Check):
    """The token is the service worker's own.

    Symptom: requests are made as another user.
    Cause: the token belongs to another user than OPENEDX_SERVICE_WORKER_USERNAME.
    Fix: use the service worker's own token, or correct the username.
    """

    id = "SVC-4"
    essential = True
    depends_on = ("SVC-1",)

    def probe(self, context: Context) -> Finding:
        username = context.application.setting(Env.OPENEDX_SERVICE_WORKER_USERNAME)
        if not username:
            raise NotKnownError(f"{Env.OPENEDX_SERVICE_WORKER_USERNAME} is not set")
        owner = _owner_of_token(context)
        if owner != username:
            return failed(
                f"the service worker's token is {owner}'s, but "
                f"{Env.OPENEDX_SERVICE_WORKER_USERNAME} is {username}",
                cause="the token was copied from another user, or the name was changed",
                fix=setting(f"{Env.OPENEDX_SERVICE_WORKER_USERNAME}={owner}"),
            )
        return ok(f"it is {owner}'s")


@check
class ServiceWorkerIsStaff(Check):
    """The service worker is staff.

    Symptom: 404 on enrolling others, 403 on course modes.
    Cause: the service worker is not staff.
    Fix: make it staff in the LMS: provision the LMS with `usher connect`.
    """

    id = "SVC-2"
    essential = True
    depends_on = ("SVC-1", "SVC-4")

    def probe(self, context: Context) -> Finding:
        answer = context.lms.get(f"{LmsPath.ENROLLMENTS}?page_size=1", token=context.token)
        if answer.status_code == 403:
            return failed(
                "the LMS refuses the service worker a request that staff may send (403)",
                cause="its account is not staff",
                fix=CONNECT,
                repair="provision",
            )
        if answer.status_code != 200:
            return skipped(f"{LmsPath.ENROLLMENTS} answers {answer.status_code}")
        return ok("it has the permissions of staff")


@check
class ServiceWorkerIsActive(Check):
    """The service worker's account is active.

    Symptom: some releases of the LMS refuse its token.
    Cause: the account is not active.
    Fix: activate it in the LMS: provision the LMS with `usher connect`.
    """

    id = "SVC-3"
    essential = True
    depends_on = ("SVC-1", "SVC-4")

    def probe(self, context: Context) -> Finding:
        if self._is_active(context):
            return ok("its account is active")
        return failed(
            "the service worker's account is not active",
            cause="the account was deactivated, or never activated",
            fix=CONNECT,
            repair="provision",
        )

    def _is_active(self, context: Context) -> bool:
        """Whether the account is active, according to the LMS's report, or to the LMS's API if the
        report lacks the service worker. Raises NotKnownError."""
        try:
            if service_worker := context.lms.report.get("service_worker"):
                return bool(service_worker.get("is_active", True))
        except NotKnownError:
            pass
        name = _owner_of_token(context)
        account = context.lms.get(f"{LmsPath.ACCOUNTS}/{in_path(name)}", token=context.token)
        if account.status_code != 200:
            raise NotKnownError(f"the LMS answers {account.status_code} about the account {name}")
        return bool(json_object(account.content).get("is_active", True))


@check
class TokenDoesNotExpireSoon(Check):
    """The service worker's token does not expire soon.

    Symptom: from one moment on, every request to the LMS fails.
    Cause: the token expires.
    Fix: provision the LMS regularly, for example every week (`tutor local do usher-provision`).
    This renews the token before it expires.
    """

    id = "SVC-5"
    depends_on = ("SVC-1", "SVC-4")

    def probe(self, context: Context) -> Finding:
        service_worker = context.lms.report.get("service_worker") or {}
        if not (expires_text := service_worker.get("token_expires")):
            raise NotKnownError("the LMS does not report when the token expires")
        expires_at = datetime.fromisoformat(expires_text)
        remaining = expires_at - context.machine.now
        if remaining < _SOON:
            return warning(
                f"the service worker's token expires on {expires_at:%Y-%m-%d %H:%M} UTC, in "
                f"{quantity(remaining.days, 'day')}",
                cause="it was not renewed",
                fix=PROVISION,
                repair="provision",
            )
        return ok(f"its token lasts until {expires_at:%Y-%m-%d}")


@check
class ServiceWorkerIsBoundToApplication(Check):
    """The service worker acts for this application only.

    Symptom: one token can act as anybody, for every application of the LMS.
    Cause: the account is a superuser, or applications share it.
    Fix: provision the LMS with `usher connect`, which creates a service worker for each
    application.
    """

    id = "SVC-6"
    depends_on = ("SVC-1", "SVC-4")

    def probe(self, context: Context) -> Finding:
        service_worker = context.lms.report.get("service_worker")
        if service_worker is None or "application" not in service_worker:
            # An LMS that reports its connections also reports the service worker if there is one.
            if context.lms.report.get("connections"):
                return self._failed("the token's account is not this application's service worker")
            raise NotKnownError(
                "the LMS does not report for which application the service worker acts"
            )
        name = service_worker.get("username")
        if service_worker.get("is_superuser"):
            return failed(
                f"{name} is a superuser of the LMS",
                cause="somebody gave the service worker more rights than it needs",
                fix=lms_manage(_REMOVE_SUPERUSER_RIGHTS.format(name=name)),
            )
        if not service_worker["application"]:
            return self._failed(f"{name} belongs to no application")
        return ok(f"{name} acts for {service_worker['application']} alone")

    def _failed(self, seen: str) -> Finding:
        return failed(
            seen,
            cause="the account was made by hand, or is shared by several applications",
            fix=CONNECT,
            repair="provision",
        )


#: The arguments of the LMS's ``manage.py lms`` that make the account ``name`` an ordinary one.
_REMOVE_SUPERUSER_RIGHTS = (
    'shell -c "from django.contrib.auth import get_user_model; '
    "get_user_model().objects.filter(username='{name}').update(is_superuser=False)\""
)
