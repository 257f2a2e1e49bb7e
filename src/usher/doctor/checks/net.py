"""Addresses: names, ports and schemes."""

import re
import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from usher.contract.answers import json_object
from usher.contract.environment import Env
from usher.contract.paths import LmsPath, in_path
from usher.contract.report import TokenProbe
from usher.doctor.check import SILENT_LMS, Check, Finding, check, failed, ok, skipped
from usher.doctor.context import Context
from usher.doctor.facts.commands import CommandError
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.facts.web import (
    NoAnswerError,
    host_of,
    query_of,
    resolves,
    same_origin,
)
from usher.doctor.fixes import CONNECT, ENV_FILE, LMS_START, START, manage, setting

#: An address in the private networks, from which docker takes its gateways.
_GATEWAY_ADDRESS = re.compile(r"^(172\.(1[6-9]|2\d|3[01])|192\.168|10)\.\d")
_HOST_NAME_ON_MACOS = "host.docker.internal"


@check
class HostNamesResolve(Check):
    """Both host names resolve.

    Symptom: the application's page, or the LMS, does not open.
    Cause: the name has no public record (`*.odl.local`) and `/etc/hosts` does not have it.
    Fix: add the line to `/etc/hosts`, or use another name.
    """

    id = "NET-1"

    def probe(self, context: Context) -> Finding:
        urls = [context.lms.url, context.application.url, _api_url_or_empty(context)]
        hosts = [host for host in dict.fromkeys(map(host_of, urls)) if host]
        if not hosts:
            raise NotKnownError("no address is known: give --lms and --application")
        if unresolved := [host for host in hosts if not resolves(host)]:
            line = shlex.quote(f"127.0.0.1 {' '.join(unresolved)}")
            return failed(
                f"{' and '.join(unresolved)} can't be resolved here",
                cause="neither DNS nor /etc/hosts has an address for it",
                fix=f"echo {line} | sudo tee -a /etc/hosts",
            )
        return ok(f"{' and '.join(hosts)} resolve")


def _api_url_or_empty(context: Context) -> str:
    try:
        return context.api_url
    except NotKnownError:
        return ""


@check
class ApplicationReachesLms(Check):
    """The application has the right address of the LMS.

    Symptom: the application can't call the LMS.
    Cause: the LMS is down, or `OPENEDX_API_BASE_URL` has the wrong scheme, host or port: Tutor's
    dev mode needs `:8000`, local does not.
    Fix: start the LMS, or correct the value in `.env`.
    """

    id = "NET-3"
    essential = True
    depends_on = ("ENV-1", "NET-1")

    def probe(self, context: Context) -> Finding:
        url, public_url = context.api_url, context.lms.url
        differs = not same_origin(url, public_url)
        server = identify_server(context, url)
        if context.tutor.has_root and differs and host_of(url) == host_of(public_url):
            seen = (
                f"{Env.OPENEDX_API_BASE_URL} is {url}, but Tutor's mode {context.tutor.mode} "
                f"serves {public_url}"
            )
            return self._wrong_address(seen, lms_url=public_url)
        if not server.answers and differs and identify_server(context, public_url).is_lms:
            return self._wrong_address(f"{server.text}; {public_url} answers", lms_url=public_url)
        if not server.answers:
            return failed(
                f"the LMS doesn't answer: {server.text}",
                cause=context.stopped_notice
                or f"the LMS is down, or {Env.OPENEDX_API_BASE_URL} is not its address",
                fix=LMS_START,
                silent_server=SILENT_LMS,
            )
        if not server.is_lms and differs and identify_server(context, public_url).is_lms:
            return self._wrong_address(
                f"{server.text}; {public_url} is the LMS", lms_url=public_url
            )
        return ok(f"{url} answers")

    def _wrong_address(self, seen: str, *, lms_url: str) -> Finding:
        return failed(
            seen,
            cause=f"{Env.OPENEDX_API_BASE_URL} is not the LMS's address",
            fix=setting(f"{Env.OPENEDX_API_BASE_URL}={lms_url}"),
        )


@dataclass(frozen=True)
class ServerAnswer:
    """answers: whether any server answers. is_lms: whether the answer is an LMS's. text: a
    description of the answer."""

    answers: bool
    is_lms: bool
    text: str


def identify_server(context: Context, url: str) -> ServerAnswer:
    """Requests the heartbeat and, if the answer is not an LMS's, another API. The heartbeat is slow
    or fails if a service that the LMS uses is slow or fails; the other API needs fewer services."""
    heartbeat = _request_answer(context, url + LmsPath.HEARTBEAT)
    if heartbeat.is_lms:
        return heartbeat
    me = _request_answer(context, url + LmsPath.ME)
    return me if me.is_lms or not heartbeat.answers else heartbeat


def _request_answer(context: Context, url: str) -> ServerAnswer:
    """Requests the heartbeat or the other API, whose answers show whether the server is an LMS."""
    try:
        answer = context.web.get(url)
    except NoAnswerError as error:
        return ServerAnswer(answers=False, is_lms=False, text=str(error))
    content_type = answer.headers.get("content-type", "").split(";")[0]
    text = f"{url} answers {answer.status_code} ({content_type or 'no content type'})"
    # The heartbeat answers 503 if a service fails; the other API answers 401 without a token.
    lms_statuses = (200, 503) if url.endswith(LmsPath.HEARTBEAT) else (200, 401)
    # Both APIs answer with a JSON object, also for errors.
    is_json_object = content_type == "application/json" and bool(json_object(answer.content))
    is_lms = is_json_object and answer.status_code in lms_statuses
    return ServerAnswer(answers=True, is_lms=is_lms, text=text)


@check
class ServerIsThisLms(Check):
    """The server at the LMS's address is this application's LMS.

    Symptom: course runs and accounts seem to be missing in the LMS.
    Cause: another server answers there: a proxy without its backend, a captive portal, another
    application, or an LMS without this application's learners.
    Fix: correct the address or the proxy. Until then Usher changes nothing.
    """

    id = "NET-6"
    essential = True
    depends_on = ("NET-3",)

    def probe(self, context: Context) -> Finding:
        url = _api_url_or_empty(context) or context.lms.url
        if not url:
            raise NotKnownError("the LMS's address is not known: give --lms")
        server = identify_server(context, url)
        if not server.answers:  # NET-3 did not find that, without the application's settings
            return failed(
                f"the LMS doesn't answer: {server.text}",
                cause="the LMS is down, or this is not its address",
                fix=LMS_START,
                silent_server=SILENT_LMS,
            )
        if not server.is_lms:
            return self._failed(
                f"{server.text}, not as an LMS does",
                cause="a proxy without its backend, a captive portal or another application "
                "answers",
            )
        missing = self._missing_in_lms(context, url)
        # Both are missing. If only one is, it may have been deleted in this LMS.
        if len(missing) == _NUMBER_LOOKED_UP:
            return self._failed(
                f"this LMS knows neither {' nor '.join(missing)}",
                cause="this LMS is empty, or this application's learners are in another LMS",
            )
        return ok(f"{url} answers as an LMS does")

    def _missing_in_lms(self, context: Context, url: str) -> list[str]:
        """Looks up the learner and the run of one enrollment that is in sync, so the LMS had both.
        Returns descriptions of those that the LMS does not have now; [] if no such enrollment, or
        no token, is known."""
        try:
            enrollments = context.application.report.get("enrollments", [])
            token = context.token
        except NotKnownError:
            return []
        if not enrollments:
            return []
        username, course_key = enrollments[0]["username"], enrollments[0]["course_key"]
        paths = {
            f"learner {username}": f"{LmsPath.ACCOUNTS}/{in_path(username)}",
            course_key: f"{LmsPath.COURSES}{course_key}",
        }
        return [
            description
            for description, path in paths.items()
            if context.web.get(url + path, token).status_code == httpx.codes.NOT_FOUND
        ]

    def _failed(self, seen: str, *, cause: str) -> Finding:
        return failed(
            seen,
            cause=cause,
            fix=f"correct the proxy, or the address: {setting(Env.OPENEDX_API_BASE_URL + '=…')}",
        )


#: The number of objects that are looked up: a learner and a run.
_NUMBER_LOOKED_UP = 2


#: Errors of a connection that was made but got no answer in time, as on a busy machine.
_ERRORS_OF_SLOW_SERVER = ("ReadTimeout",)


@check
class LmsReachesApplication(Check):
    """The LMS reaches the application's token endpoint.

    Symptom: sign-in ends at the LMS's error page.
    Cause: the application is down, or the LMS's container can't reach the address in the provider
    record: the gateway address is wrong, or changed after a restart.
    Fix: start the application, or correct the address; use the name `host.docker.internal` instead
    of an IP address.
    """

    id = "NET-2"
    essential = True
    depends_on = ("PRV-1", "PRV-2", "PRV-3", "ENV-3", "ENV-5")

    def probe(self, context: Context) -> Finding:
        for token_probe in context.lms.report.get("token_probes", []):
            if token_probe.get("backend_name") == context.backend:
                return self._judge_answer(token_probe, context)
        return skipped("the LMS did not try the application's token endpoint")

    def _judge_answer(self, probe: TokenProbe, context: Context) -> Finding:
        """The finding about the answer that the LMS got from the application's token endpoint.
        Raises NotKnownError if the answer shows nothing about the address."""
        url, status = probe.get("url"), probe.get("status")
        if probe.get("error") in _ERRORS_OF_SLOW_SERVER:
            raise NotKnownError(f"{url} answered the LMS too slowly to tell")
        if status == httpx.codes.INTERNAL_SERVER_ERROR:
            return failed(
                f"the application fails: {url} answers the LMS with 500",
                cause=_error_of_manage(context)
                or "an error in the application, its settings or its database",
                fix="correct the cause: the application's log has more, and its database must "
                f"be up and migrated; after an update: {manage('migrate')}",
            )
        if status is None or status == 404 or status >= 502:
            return self._not_reached(probe, context)
        if status == httpx.codes.TOO_MANY_REQUESTS:
            raise NotKnownError(f"{url} limits the LMS's requests (429)")
        if not probe.get("oauth_error"):
            return failed(
                f"the LMS reaches no OAuth token endpoint at {url}: it gets the "
                f"answer {status} without an OAuth error",
                cause="another server listens there, or a proxy answers in the application's "
                "place or redirects",
                fix=f"start the application at that address, or correct the address: {CONNECT}",
            )
        return ok(f"from inside the LMS, {url} answers {status}")

    def _not_reached(self, probe: TokenProbe, context: Context) -> Finding:
        """The finding if the application is down, or the LMS does not reach its address."""
        status = probe.get("status")
        if status is None and (error := _connection_error(context)):
            return failed(
                f"the application doesn't answer: {error}",
                cause=context.stopped_notice
                or _error_of_manage(context)
                or "it does not run, or listens at another address",
                fix=START,
                silent_server="the application",
            )
        seen = probe.get("error") or f"it answers {status}"
        return failed(
            f"the LMS does not reach {probe.get('url')}: {seen}",
            cause="ACCESS_TOKEN_URL of the provider record is not the application's "
            "address as the LMS's container sees it",
            fix=CONNECT,
            repair="provision",
        )


def _error_of_manage(context: Context) -> str:
    """The error of the application's ``manage.py``, since the application's server often fails with
    the same error; '' if ``manage.py`` works."""
    try:
        _ = context.application.report  # runs manage.py
    except CommandError as error:
        return str(error)
    except NotKnownError:
        pass
    return ""


def _connection_error(context: Context) -> str:
    """Why this machine, like the LMS, can't reach the application; '' if the application
    answers."""
    try:
        context.application.get("/")
    except NoAnswerError as error:
        return str(error)
    return ""


@check
class GatewayFitsPlatform(Check):
    """The address of the host machine, as containers see it, fits this operating system.

    Symptom: the connection works on Linux and not on macOS, or the reverse.
    Cause: on macOS containers reach the host machine as `host.docker.internal`, and at no gateway
    address. On Linux without Docker Desktop this name is unknown.
    Fix: set OPENEDX_IP in the application's `.env` to the address that the finding names.
    """

    id = "NET-4"
    depends_on = ("ENV-1",)

    def probe(self, context: Context) -> Finding:
        address = context.application.env.get(Env.OPENEDX_IP) or ""
        if not address:
            return ok("no gateway address is in use")
        system = context.machine.system
        if context.machine.platform == "darwin" and _GATEWAY_ADDRESS.match(address):
            fix = setting(f"{Env.OPENEDX_IP}={_HOST_NAME_ON_MACOS}")
            return self._failed(address, system, fix=fix)
        if context.machine.platform == "linux" and address == _HOST_NAME_ON_MACOS:
            if context.tutor.has_root:
                source = f"from: {_INSPECT_COMMAND}"
            else:
                source = "this machine's address for the LMS's containers"
            fix = f"{Env.OPENEDX_IP}=<gateway> in {ENV_FILE}, {source}"
            return self._failed(address, system, fix=fix)
        return ok(f"{Env.OPENEDX_IP}={address} is what {system} needs")

    def _failed(self, address: str, system: str, *, fix: str) -> Finding:
        return failed(
            f"{Env.OPENEDX_IP}={address} does not work on {system}",
            cause="containers reach this machine by that address on another operating system only",
            fix=fix,
        )


_INSPECT_COMMAND = (
    "docker network inspect tutor_local_default -f '{{(index .IPAM.Config 0).Gateway}}'"
)


@check
class RedirectsKeepScheme(Check):
    """Redirects keep the scheme that browsers use.

    Symptom: behind https a redirect goes to http, or redirects loop.
    Cause: the proxy does not send `X-Forwarded-Proto`, or the server behind does not trust it.
    Fix: let the proxy send the header, in nginx by `proxy_set_header X-Forwarded-Proto $scheme;`,
    and set SECURE_PROXY_SSL_HEADER in the settings of the server behind it.
    """

    id = "NET-5"
    depends_on = ("NET-1", "NET-6", "PRV-1", "PRV-2", "PRV-3", "NET-2")

    def probe(self, context: Context) -> Finding:
        lms_scheme = urlsplit(context.lms.url).scheme
        answer = context.lms.get(context.sign_in_path)
        redirect_uri = query_of(answer.headers.get("location", "")).get("redirect_uri", "")
        if not redirect_uri:
            return skipped("sign-in does not start, so no redirect was seen")
        if urlsplit(redirect_uri).scheme != lms_scheme:
            seen = f"{context.lms.url} tells browsers to come back to {redirect_uri[:80]}"
            fix_in_tutor = "tutor config save --set ENABLE_HTTPS=true"
            return self._failed(seen, fix=fix_in_tutor if context.tutor.has_root else _PROXY_FIX)
        application_scheme = urlsplit(context.application.url).scheme
        page = context.application.get("/")
        target = page.headers.get("location", "")
        if target.startswith("http") and urlsplit(target).scheme != application_scheme:
            seen = f"{context.application.url} redirects to {target[:80]}"
            return self._failed(seen, fix=_PROXY_FIX)
        if application_scheme == lms_scheme:
            return ok(f"redirects keep {lms_scheme}")
        return ok("redirects keep their schemes")

    def _failed(self, seen: str, *, fix: str) -> Finding:
        return failed(
            seen,
            cause="the server behind the proxy does not know that the browser uses https",
            fix=fix,
        )


_PROXY_FIX = (
    "let the proxy send the header, in nginx by `proxy_set_header X-Forwarded-Proto $scheme;`, and "
    "set SECURE_PROXY_SSL_HEADER in the settings of the server behind it"
)
