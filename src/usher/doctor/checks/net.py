"""Addresses: names, ports, schemes, and who reaches whom."""

import re
from urllib.parse import urlsplit

from usher.contract.environment import Env
from usher.contract.paths import LmsPath
from usher.doctor.check import Check, Finding, check, failed, ok, skipped
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.facts.web import NoAnswerError, host_of, query_of, resolves, same_origin

_GATEWAY = re.compile(r"^(172\.(1[6-9]|2\d|3[01])|192\.168|10)\.\d")
_MAC_NAME = "host.docker.internal"


@check
class NamesResolve(Check):
    """Both host names lead somewhere.

    Symptom: the application's page, or the LMS, does not open.
    Cause: the name has no public record (`*.odl.local`) and `/etc/hosts` does not have it.
    Fix: the line to add to `/etc/hosts`, or another name.
    """

    id = "NET-1"

    def probe(self, context: Context) -> Finding:
        urls = [context.lms.url, context.application.url, _or_nothing(context)]
        hosts = [host for host in dict.fromkeys(map(host_of, urls)) if host]
        if not hosts:
            raise NotKnownError("no address is known: give --lms and --application")
        if lost := [host for host in hosts if not resolves(host)]:
            return failed(
                f"{' and '.join(lost)} can't be resolved here",
                cause="no name server knows it, and /etc/hosts does not have it",
                fix=f"echo '127.0.0.1 {' '.join(lost)}' | sudo tee -a /etc/hosts",
            )
        return ok(f"{' and '.join(hosts)} resolve")


def _or_nothing(context: Context) -> str:
    try:
        return context.api_url
    except NotKnownError:
        return ""


@check
class ApplicationReachesLms(Check):
    """The application's address of the LMS is right.

    Symptom: the application can't call the LMS.
    Cause: `OPENEDX_API_BASE_URL` has the wrong scheme, host or port: Tutor's dev mode needs
    `:8000`, local does not.
    Fix: the right value in `.env`.
    """

    id = "NET-3"
    depends_on = ("ENV-1", "NET-1")

    def probe(self, context: Context) -> Finding:
        url = context.api_url
        right = context.lms.url if not same_origin(url, context.lms.url) else ""
        try:
            answer = context.web.get(url + LmsPath.HEARTBEAT)
        except NoAnswerError as error:
            return self._wrong(str(error), right or "http://<LMS>")
        if answer.status_code not in (200, 503) or "json" not in answer.headers.get(
            "content-type", ""
        ):
            seen = f"{url}{LmsPath.HEARTBEAT} answers {answer.status_code}, not as an LMS does"
            return self._wrong(seen, right or "http://<LMS>")
        if context.tutor.given and right and host_of(url) == host_of(right):
            seen = f"{url}, but Tutor's mode {context.tutor.mode} serves {right}"
            return self._wrong(seen, right)
        return ok(f"{url} answers as an LMS does")

    def _wrong(self, seen: str, right: str) -> Finding:
        return failed(
            seen,
            cause=f"{Env.OPENEDX_API_BASE_URL} is not the LMS's address, or the LMS is down",
            fix=f"{Env.OPENEDX_API_BASE_URL}={right} in .env, then docker compose up -d",
        )


@check
class LmsReachesApplication(Check):
    """The LMS reaches the application's token endpoint.

    Symptom: sign-in ends at the LMS's error page.
    Cause: the address in the provider record leads nowhere from the LMS's container: the wrong
    gateway, or one that changed after a restart.
    Fix: the right address; the name `host.docker.internal` instead of a number.
    """

    id = "NET-2"
    depends_on = ("PRV-1", "PRV-2", "PRV-3", "ENV-3")

    def probe(self, context: Context) -> Finding:
        for probe in context.lms.report.get("token_probes", []):
            if probe.get("backend_name") != context.backend:
                continue
            status = probe.get("status")
            if status is None or status == 404 or status >= 502:
                seen = probe.get("error") or f"it answers {status}"
                return failed(
                    f"from inside the LMS, {probe.get('url')}: {seen}",
                    cause="ACCESS_TOKEN_URL of the provider record is not the application's "
                    "address as the LMS's container sees it",
                    fix="usher connect, or server_url: http://host.docker.internal:<port> "
                    "in USHER_APPLICATIONS",
                )
            return ok(f"from inside the LMS, {probe.get('url')} answers {status}")
        return skipped("the LMS did not try the application's token endpoint")


@check
class GatewayFitsPlatform(Check):
    """The gateway address fits this platform.

    Symptom: it works on Linux and not on macOS, or the reverse.
    Cause: macOS has no gateway address that containers reach; they use `host.docker.internal`,
    which plain Linux does not know.
    Fix: this platform's address.
    """

    id = "NET-4"
    depends_on = ("ENV-1",)

    def probe(self, context: Context) -> Finding:
        address = context.application.env.get(Env.OPENEDX_IP) or ""
        if not address:
            return ok("no gateway address is in use")
        system = context.machine.system
        if context.machine.platform == "darwin" and _GATEWAY.match(address):
            return self._wrong(address, system, f"{Env.OPENEDX_IP}={_MAC_NAME}")
        if context.machine.platform == "linux" and address == _MAC_NAME:
            return self._wrong(address, system, f"{Env.OPENEDX_IP}=<gateway>, from: " + _INSPECT)
        return ok(f"{Env.OPENEDX_IP}={address} is what {system} needs")

    def _wrong(self, address: str, system: str, fix: str) -> Finding:
        return failed(
            f"{Env.OPENEDX_IP}={address} on {system}",
            cause="that address is another platform's way from a container to this machine",
            fix=fix,
        )


_INSPECT = "docker network inspect tutor_local_default -f '{{(index .IPAM.Config 0).Gateway}}'"


@check
class SchemesAgree(Check):
    """Redirects keep the scheme that browsers use.

    Symptom: behind https a redirect goes to http, or in circles.
    Cause: the proxy does not send `X-Forwarded-Proto`, or the server behind does not trust it.
    Fix: `proxy_set_header X-Forwarded-Proto $scheme;` and the setting that trusts it.
    """

    id = "NET-5"
    depends_on = ("NET-1", "NET-3", "PRV-1", "PRV-2", "PRV-3")

    def probe(self, context: Context) -> Finding:
        scheme = urlsplit(context.lms.url).scheme
        answer = context.lms.get(context.sign_in_start)
        told = query_of(answer.headers.get("location", "")).get("redirect_uri", "")
        if not told:
            return skipped("sign-in does not start, so no redirect was seen")
        if urlsplit(told).scheme != scheme:
            return self._wrong(f"{context.lms.url} tells browsers to come back to {told[:80]}")
        own = urlsplit(context.application.url).scheme
        page = context.application.get("/")
        target = page.headers.get("location", "")
        if target.startswith("http") and urlsplit(target).scheme != own:
            return self._wrong(f"{context.application.url} redirects to {target[:80]}")
        return ok(f"both sides keep to {scheme}" if own == scheme else "both sides keep schemes")

    def _wrong(self, seen: str) -> Finding:
        return failed(
            seen,
            cause="the server behind the proxy does not know that the browser speaks https",
            fix="proxy_set_header X-Forwarded-Proto $scheme; and SECURE_PROXY_SSL_HEADER, "
            "or in Tutor: tutor config save --set ENABLE_HTTPS=true",
        )
