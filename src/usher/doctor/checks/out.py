"""Signing out, in both directions."""

from urllib.parse import urlsplit

from usher.contract.editions import START_GATEWAY
from usher.contract.environment import Env
from usher.contract.paths import ApplicationPath, LmsPath
from usher.doctor.check import Check, Finding, check, failed, note, ok, skipped
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.fixes import CONNECT, LMS_SETTINGS, PROVISION, setting


@check
class SignOutEndsBothSessions(Check):
    """Signing out of the application signs out of the LMS, and the reverse.

    Symptom: signed out of the application, still signed in to the LMS.
    Cause: LOGOUT_REDIRECT_URL is not set, or the LMS does not have the application in
    IDA_LOGOUT_URI_LIST.
    Fix: run `usher connect`, which sets both.
    """

    id = "OUT-1"
    depends_on = ("ENV-1", "ENV-3", "NET-6", "LMS-1", "NET-2")

    def probe(self, context: Context) -> Finding:
        if not context.application.knows_settings:
            raise NotKnownError("the application's settings are not known: give --application PATH")
        target = context.application.setting(Env.LOGOUT_REDIRECT_URL)
        logout_url = context.lms.at(LmsPath.LOGOUT)
        # The host is not compared: browsers may know the LMS by another name than this command.
        if urlsplit(target).path.rstrip("/") != LmsPath.LOGOUT:
            return failed(
                f"{Env.LOGOUT_REDIRECT_URL} is {target or 'not set'}",
                cause="signing out of the application does not lead to the LMS's sign-out",
                fix=setting(f"{Env.LOGOUT_REDIRECT_URL}={logout_url}"),
            )
        addresses = context.lms.setting("IDA_LOGOUT_URI_LIST") or []
        application_logout_url = context.application.url + ApplicationPath.LOGOUT
        gateway_logout_url = context.application.url + ApplicationPath.GATEWAY_LOGOUT
        if gateway_logout_url in addresses:
            return self._check_gateway(gateway_logout_url, context)
        if application_logout_url not in addresses:
            return failed(
                f"{application_logout_url} is not in IDA_LOGOUT_URI_LIST",
                cause="the LMS does not notify the application when a learner signs out",
                fix=LMS_SETTINGS,
            )
        return self._check_page_in_frame(application_logout_url, context)

    def _check_page_in_frame(self, application_logout_url: str, context: Context) -> Finding:
        """Requests the application's sign-out page as a browser's hidden frame does: GET, without a
        session. Raises NotKnownError if the page fails."""
        status = context.application.get(ApplicationPath.LOGOUT).status_code
        if status in (404, 405):
            return note(
                f"{application_logout_url} answers {status} in the hidden frame of the LMS's "
                "sign-out page",
                cause=(
                    "this application signs out by POST only: signing out of the application "
                    "ends both sessions, signing out of the LMS does not end the application's"
                ),
            )
        if status >= 500:
            raise NotKnownError(f"{application_logout_url} answers {status}")
        return ok("signing out of the application signs out of the LMS, and the reverse")

    def _check_gateway(self, address: str, context: Context) -> Finding:
        """Checks that a gateway answers at its sign-out page. Without the gateway, the application
        itself answers there: with 404, or with 301 to the same address with a slash."""
        status = context.application.get(ApplicationPath.GATEWAY_LOGOUT).status_code
        if status in (301, 404):
            return failed(
                f"{address} answers {status}: no API gateway ends a session there",
                cause=(
                    "signing out of the LMS does not end the gateway's session, nor the "
                    "application's"
                ),
                fix="start the application's API gateway at that address (in its checkout: "
                f"`{START_GATEWAY}`); "
                f"if sign-in does not use one any more, {CONNECT}",
            )
        return ok(
            "signing out of the application signs out of the LMS, and the reverse, through the "
            "API gateway"
        )


@check
class SignOutNeedsNoCookies(Check):
    """Signing out works without the browser's cookies.

    Symptom: signed out at the LMS, still signed in at the application.
    Cause: browsers send no cookies in hidden frames of another site, so the servers must notify
    each other. One of them lacks the other's address for these messages.
    Fix: provision the LMS with `usher connect`, which writes both addresses.
    """

    id = "OUT-2"
    depends_on = ("OUT-1", "PRV-1", "PRV-2", "ENV-3")

    def probe(self, context: Context) -> Finding:
        connections = context.lms.report.get("connections", [])
        connection = next(
            (row for row in connections if row.get("backend") == context.backend), None
        )
        if connection is None:
            return skipped("the LMS has no record of the connection, which provisioning creates")
        has_address = bool(connection.get("backchannel_logout_url"))
        if not has_address and not context.application.report.get("usher"):
            return note(
                "sign-out at the LMS reaches the application by the browser's frames alone",
                cause="an application without Usher can't receive the LMS's messages; the "
                "application's session stays if the browser sends no cookies in frames",
            )
        if not has_address:
            return self._failed(
                "the LMS does not have the application's address for messages about sign-outs"
            )
        if not connection.get("jwks_url"):
            return self._failed("the LMS does not have the address of the application's keys")
        path = LmsPath.USHER_BACKCHANNEL_LOGOUT.format(backend=context.backend)
        invalid_messages = {
            context.lms.at(path): {"logout_token": "doctor"},
            context.application.url + ApplicationPath.BACKCHANNEL_LOGOUT: {"doctor": "1"},
        }
        for url, form in invalid_messages.items():
            status = context.web.request("POST", url, data=form).status_code
            # An invalid message must be refused by the endpoint, not answered by a missing page.
            if status not in (400, 401, 403):
                return self._failed(
                    f"{url} answers {status} to an invalid message, which it must refuse"
                )
        return ok("the application and the LMS accept each other's messages about sign-outs")

    def _failed(self, seen: str) -> Finding:
        return failed(
            seen,
            cause="the two servers can't notify each other of a sign-out",
            fix=PROVISION,
            repair="provision",
        )
