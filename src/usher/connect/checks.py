"""Checks of a running connection, made in each process that must reach another process.

Only the last checks change anything: a test learner is created, signs in and is removed again, and
the application's own sync and repair commands run.
"""

import functools
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from usher.connect import outputs
from usher.connect.application.remote import NO_CODE
from usher.connect.application.target import Addresses, TargetApplication, find_application
from usher.connect.errors import ConnectError, ToolFailed
from usher.connect.openedx.lms import Lms
from usher.connect.plan import Check
from usher.connect.process import Output
from usher.contract import agents
from usher.contract.answers import json_object
from usher.contract.editions import START_GATEWAY
from usher.contract.paths import LmsPath
from usher.contract.provisioning import RETIREMENT, Application, Description, ServiceWorker
from usher.contract.terminal import wrap
from usher.journey import sign_in
from usher.journey.steps import BrokenError

#: The id of a check → the function that makes it.
Probes = dict[str, Callable[[], Check]]
#: Seconds for each request.
TIMEOUT = 15.0
#: How MITx Online requests a token for itself.
JWT_GRANT = {"grant_type": "client_credentials", "token_type": "jwt"}
#: Seconds a server may take to start; a first start builds assets and migrates.
START_SECONDS = 300.0
#: The reason shown for skipped checks that only prove the connection.
_SKIPPED = "skipped by --no-prove"
#: MITx Online's and MIT xPro's command that creates missing LMS accounts.
REPAIR_COMMAND = "repair_missing_courseware_records"
#: Seconds between progress messages while waiting.
PROGRESS_SECONDS = 10.0
#: Seconds between two attempts while waiting.
_SECONDS_BETWEEN_ATTEMPTS = 0.5
#: The id of the check of the redirect URI.
_REDIRECT_URI = "redirect-uri"
#: The id of a check whose result is not shown.
_NOT_SHOWN = ""
#: The address is required with a code, and is not used: the code is invalid.
_UNUSED_REDIRECT_URI = "http://x/"


def run(
    lms: Lms, target: TargetApplication, addresses: Addresses, *, prove: bool
) -> Iterator[Check]:
    """Yields the checks of one application. Checks that depend on a failed one are skipped. prove:
    whether to follow a sign-in, and to run the application's own sync and repair commands."""
    description = lms.description()
    if description is None:
        yield Check("description", "failed", "not rendered", f"run:\n$ {lms.render_command()}")
        return
    application = find_application(description, target.name)
    with httpx.Client(headers=agents.CONNECT, timeout=TIMEOUT, follow_redirects=False) as client:
        answering = [
            _run_probe("lms-answers", lambda: _check_lms_answers(client, addresses)),
            _run_probe("application-answers", lambda: _check_application_answers(client, target)),
        ]
        yield from answering
        both_answer = all(check.outcome == "ok" for check in answering)
        silence = "" if both_answer else "the application or the LMS does not answer"
        over_http = _probes_over_http(client, target, application, description, addresses)
        yield from _results(over_http, silence)
        inside = _probes_inside(client, target, application, description, addresses)
        results_inside: list[Check] = []
        for name, probe in inside.items():
            # To send its redirect URI, the LMS may first need an answer of the application.
            reason_to_skip = silence if name == _REDIRECT_URI else ""
            results_inside += _results({name: probe}, reason_to_skip)
        yield from results_inside
    can_sign_in = both_answer and all(check.outcome == "ok" for check in results_inside)
    if not prove:
        reason_to_skip = _SKIPPED
    elif not can_sign_in:
        reason_to_skip = "an earlier check failed"
    else:
        reason_to_skip = ""
    sign_in_target = _sign_in_target(lms, target, application, description, addresses)
    yield from _results(_probes_by_browser(target, sign_in_target), reason_to_skip)
    own_commands: Probes = {
        "sync": lambda: _check_sync(target),
        "repair": lambda: _check_repair(target),
    }
    yield from _results(own_commands, reason_to_skip)


def _probes_over_http(
    client: httpx.Client,
    target: TargetApplication,
    application: Application,
    description: Description,
    addresses: Addresses,
) -> Probes:
    """Returns the checks that send requests to the application and the LMS."""
    probes: Probes = {
        "sign-in-start": lambda: _check_sign_in_start(client, application, addresses),
        "application-client": lambda: _check_application_client(client, application),
        "service-worker": lambda: _check_service_worker(
            client, description, target.name, addresses
        ),
        "lms-client": lambda: _check_lms_client(client, application, addresses),
        "from-the-lms": lambda: _check_lms_reaches_application(
            client, description, application, addresses
        ),
    }
    if application.service_clients:
        probes["service-clients"] = lambda: _check_service_clients(client, application, addresses)
    return probes


def _probes_inside(
    client: httpx.Client,
    target: TargetApplication,
    application: Application,
    description: Description,
    addresses: Addresses,
) -> Probes:
    """Returns the checks that run inside the application; none if its manage.py can't be run."""
    if not target.checkout.manage:
        return {}
    ask_once = functools.cache(lambda: _ask_application(client, target, application, addresses))
    return {
        _REDIRECT_URI: lambda: _check_redirect_uri(*ask_once()),
        "from-the-application": lambda: _check_from_the_application(ask_once()[1], addresses),
        "settings-in-force": lambda: _check_settings_in_force(
            ask_once()[1], target, description, addresses
        ),
    }


def _probes_by_browser(target: TargetApplication, sign_in_target: sign_in.Target) -> Probes:
    """Returns the checks that follow a sign-in as a browser does."""
    probes: Probes = {"sign-in-page": lambda: _check_sign_in_page(sign_in_target)}
    if target.checkout.manage:
        probes["learner"] = lambda: _check_learner(sign_in_target, target)
    return probes


def _results(probes: Probes, reason_to_skip: str) -> Iterator[Check]:
    """Yields the result of each probe. If ``reason_to_skip`` is given, runs none of them."""
    for name, probe in probes.items():
        yield (
            Check(name, "skipped", reason_to_skip) if reason_to_skip else _run_probe(name, probe)
        )


def lms_leads_to(application: Application, addresses: Addresses) -> bool:
    """Whether the running LMS sends learners to this application to sign in."""
    with httpx.Client(headers=agents.CONNECT, timeout=TIMEOUT, follow_redirects=False) as client:
        check = _run_probe(
            "sign-in-start", lambda: _check_sign_in_start(client, application, addresses)
        )
    return check.outcome == "ok"


def wait_for_lms(addresses: Addresses, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Waits until the LMS answers after a restart. Raises ToolFailed after ``START_SECONDS``.

    meanwhile: called between the attempts; can raise an error to end the wait early.
    """
    _wait_for(addresses.lms_url, lambda client: _check_lms_answers(client, addresses), meanwhile)


def wait_for_application(target: TargetApplication) -> None:
    """Waits until the application answers; see ``wait_for_lms``."""
    _wait_for(target.url, lambda client: _request_application(client, target)[0])


def wait_for_own_server(target: TargetApplication, meanwhile: Callable[[], None]) -> None:
    """Waits until the application's own address gives any answer; see ``wait_for_lms``."""
    _wait_for(target.own_url, lambda client: _check_own_server(client, target), meanwhile)


def _wait_for(
    url: str,
    probe: Callable[[httpx.Client], Check],
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Calls ``probe`` until its result is ok. Raises ToolFailed after ``START_SECONDS``.

    url: for messages; meanwhile: as for ``wait_for_lms``.
    """
    start = time.monotonic()
    reported = start
    with httpx.Client(headers=agents.CONNECT, timeout=TIMEOUT) as client:
        while True:
            check = _run_probe(_NOT_SHOWN, lambda: probe(client))
            if check.outcome == "ok":
                return
            meanwhile()
            now = time.monotonic()
            if now > start + START_SECONDS:
                raise ToolFailed(
                    f"{url} did not come up within {START_SECONDS:.0f} seconds: {check.seen}"
                )
            if now > reported + PROGRESS_SECONDS:
                reported = now
                progress = (
                    f"waiting for {url}, {now - start:.0f} of at most {START_SECONDS:.0f} seconds"
                )
                sys.stderr.write(f"{' ' * 10}{wrap(f'{progress}: {check.seen}', indent=10)}\n")
            time.sleep(_SECONDS_BETWEEN_ATTEMPTS)


def _run_probe(name: str, probe: Callable[[], Check]) -> Check:
    """Returns the result of the probe. If it raises an error, the result is the failed check
    ``name``."""
    try:
        return probe()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # ``error.request`` would raise an error for a request that was never made.
        url = getattr(getattr(error, "_request", None), "url", "")
        fix = "start it if it isn't running" + _advice_about_host(str(url))
        return Check(name, "failed", f"{url} {error}".strip(), fix)
    except ConnectError as error:
        return Check(name, "failed", str(error))


def _advice_about_host(url: str) -> str:
    """Returns advice if the URL's host name does not resolve on this machine, as names for
    development often don't; else ""."""
    host = urlsplit(url).hostname or ""
    if not re.search("[a-z]", host) or resolves(host):
        return ""
    return f"; {host} does not resolve here: add to /etc/hosts: 127.0.0.1 {host}"


def resolves(host: str) -> bool:
    """Whether this machine resolves ``host``."""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _check_lms_answers(client: httpx.Client, addresses: Addresses) -> Check:
    """Checks that the LMS answers.

    The LMS's heartbeat also checks the course stores, and sign-in works without them. So the check
    passes if the heartbeat fails but the API answers.
    """
    try:
        status = client.get(addresses.lms_url + LmsPath.HEARTBEAT).status_code
        heartbeat = f"answers {status}"
        if status == httpx.codes.OK:
            return Check("lms-answers", "ok", f"{addresses.lms_url} {heartbeat}")
    except httpx.ReadTimeout:
        heartbeat = f"doesn't answer within {client.timeout.read:.0f} seconds"
    me = client.get(addresses.lms_url + LmsPath.ME)
    if me.status_code == httpx.codes.UNAUTHORIZED:
        seen = f"{addresses.lms_url} serves its API, though its {LmsPath.HEARTBEAT} {heartbeat}"
        return Check("lms-answers", "ok", seen)
    return Check("lms-answers", "failed", f"{addresses.lms_url} {heartbeat}", "start the LMS")


def _check_application_answers(client: httpx.Client, target: TargetApplication) -> Check:
    """Checks that the application answers at its http address and does not require HTTPS there."""
    check, answers = _request_application(client, target)
    if check.outcome != "ok":
        return check
    for url, answer in answers.items():
        location = answer.headers.get("location", "")
        https_address = url.replace("http:", "https:", 1) + "/"
        if location == https_address:
            edition = target.checkout.edition
            name = edition.https_redirect_key if edition else "SECURE_SSL_REDIRECT"
            fix = (
                f"set {name}=False in its settings and restart it; or, if it is served by HTTPS, "
                "give that address with --url"
            )
            return Check("application-answers", "failed", f"{url} redirects to {location}", fix)
    return check


def _request_application(
    client: httpx.Client, target: TargetApplication
) -> tuple[Check, dict[str, httpx.Response]]:
    """Returns whether the application answers, and its answers by address: the application's own
    address first, then its address for browsers; {} if nothing answers at one of them."""
    answers: dict[str, httpx.Response] = {}
    for url in dict.fromkeys([target.own_url or target.url, target.url]):
        try:
            answers[url] = client.get(url + "/")
        except httpx.ConnectError as error:
            seen = f"nothing answers at {url} ({error})"
            fix = f"start {_server_to_start(target, url)}{_advice_about_host(url)}"
            return Check("application-answers", "failed", seen, fix), {}
    works = not answers[target.url].is_server_error
    seen = f"{target.url} answers {answers[target.url].status_code}"
    return Check("application-answers", "ok" if works else "failed", seen), answers


def _server_to_start(target: TargetApplication, url: str) -> str:
    """Returns the server that should answer at ``url``, for advice to start it."""
    if url == target.own_url or not target.gateway_url:
        return "it"
    if target.checkout.compose:
        return f"its API gateway (in its checkout: `{START_GATEWAY}`)"
    # The gateway of the compose file forwards to containers only.
    return f"an API gateway that forwards to {target.own_url}"


def _check_own_server(client: httpx.Client, target: TargetApplication) -> Check:
    """Checks that the application's own address gives any answer. Raises httpx.HTTPError."""
    status = client.get(target.own_url + "/").status_code
    return Check(_NOT_SHOWN, "ok", f"{target.own_url} answers {status}")


def _check_sign_in_start(
    client: httpx.Client, application: Application, addresses: Addresses
) -> Check:
    """Checks that the running LMS sends learners to this application, with the right client id."""
    answer = client.get(addresses.lms_url + LmsPath.sign_in_start(application.backend))
    location = answer.headers.get("location", "")
    query = parse_qs(urlsplit(location).query)
    if location.startswith(application.authorization_url) and query.get("client_id") == [
        application.client_id
    ]:
        return Check("sign-in-start", "ok", f"leads to {application.authorization_url}")
    seen = f"{answer.request.url.path} answers {answer.status_code}" + (
        f" to {location.partition('?')[0]}" if location else ""
    )
    fix = (
        "restart the LMS. If it still answers 404, it does not use the rendered settings; 500 "
        "means that the provider record is missing"
    )
    return Check("sign-in-start", "failed", seen, fix)


def _ask_application(
    client: httpx.Client, target: TargetApplication, application: Application, addresses: Addresses
) -> tuple[str, dict[str, Any]]:
    """Returns the redirect URI that the LMS sends, and the application's report about it."""
    answer = client.get(addresses.lms_url + LmsPath.sign_in_start(application.backend))
    query = parse_qs(urlsplit(answer.headers.get("location", "")).query)
    redirect_uri = query.get("redirect_uri", [""])[0]
    return redirect_uri, target.examine_again(application, addresses, redirect_uri)


def _check_redirect_uri(redirect_uri: str, report: dict[str, Any]) -> Check:
    """Checks that the application accepts the redirect URI that the LMS sends."""
    plain = redirect_uri.partition("?")[0]
    if report["accepts"]:
        return Check(_REDIRECT_URI, "ok", f"the application accepts {plain}")
    registered = report["record"]["redirect_uris"].split() if report["record"] else []
    if plain in registered:
        fix = (
            "its OAuth toolkit (3.4 or newer) compares the whole address, and python-social-auth "
            "adds redirect_state to it: remove that parameter in its OAUTH2_VALIDATOR_CLASS, or "
            "keep the toolkit below 3.4"
        )
        return Check(_REDIRECT_URI, "failed", f"refuses {redirect_uri}", fix)
    fix = f"registered: {', '.join(registered) or 'none'}; is --lms-url the LMS's own address?"
    seen = f"refuses {redirect_uri}" if redirect_uri else "the LMS's sign-in sends no redirect URI"
    return Check(_REDIRECT_URI, "failed", seen, fix)


def _check_application_client(client: httpx.Client, application: Application) -> Check:
    """Checks that the application knows the LMS's client id and secret. It then answers
    ``invalid_grant`` to a code that does not exist."""
    # Not ``access_token_url``, which may be an address for the LMS's containers only.
    token_url = application.authorization_url.removesuffix("authorize/") + "token/"
    data = {
        "client_id": application.client_id,
        "client_secret": application.client_secret,
        **NO_CODE,
    }
    answer = client.post(token_url, data={**data, "redirect_uri": _UNUSED_REDIRECT_URI})
    error = _oauth_error(answer)
    is_known = error == "invalid_grant"
    seen = "knows the LMS's id and secret" if is_known else f"{token_url} answers {error}"
    return Check("application-client", "ok" if is_known else "failed", seen)


def _check_service_worker(
    client: httpx.Client, description: Description, name: str, addresses: Addresses
) -> Check:
    """Checks that the LMS accepts the token of the application's service worker."""
    worker = description.service_worker_of(name)
    answer = client.get(addresses.lms_url + LmsPath.ME, headers=_authorization_of(worker))
    username = json_object(answer.content).get("username")
    if worker and username == worker.username:
        return Check("service-worker", "ok", f"its token is {username}'s")
    return Check("service-worker", "failed", f"{LmsPath.ME} answers {answer.status_code}")


def _authorization_of(worker: ServiceWorker | None) -> dict[str, str]:
    """Returns the header with the service worker's token; with an empty token for None."""
    return {"Authorization": f"Bearer {worker.token if worker else ''}"}


def _check_lms_client(
    client: httpx.Client, application: Application, addresses: Addresses
) -> Check:
    """Checks that the LMS knows the application's client id and secret."""
    data = {
        "client_id": application.oauth_client_id,
        "client_secret": application.oauth_client_secret,
    }
    answer = client.post(
        addresses.lms_url + LmsPath.ACCESS_TOKEN,
        data={**data, **NO_CODE, "redirect_uri": application.oauth_redirect_uris[0]},
    )
    error = _oauth_error(answer)
    is_known = error == "invalid_grant"
    seen = "knows the application's id and secret" if is_known else f"answers {error}"
    return Check("lms-client", "ok" if is_known else "failed", seen)


def _check_service_clients(
    client: httpx.Client, application: Application, addresses: Addresses
) -> Check:
    """Checks that the application's service clients get tokens and may use the APIs they need."""
    name = "service-clients"
    purposes = []
    for service in application.service_clients:
        data = {"client_id": service.client_id, "client_secret": service.client_secret}
        url = addresses.lms_url + LmsPath.ACCESS_TOKEN
        token_answer = client.post(url, data={**data, **JWT_GRANT})
        jwt = str(json_object(token_answer.content).get("access_token") or "")
        if not jwt:
            error = _oauth_error(token_answer)
            return Check(name, "failed", f"{service.purpose}: the LMS answers {error}")
        headers = {"Authorization": f"JWT {jwt}"}
        if service.purpose == RETIREMENT:
            # No username: nobody is retired.
            url = addresses.lms_url + LmsPath.BULK_RETIRE
            answer = client.post(url, headers=headers, json={"usernames": ""})
        else:
            url = addresses.studio_url + LmsPath.STUDIO_COURSE_RUNS
            try:
                answer = client.get(url, headers=headers)
            except httpx.TransportError as error:
                fix = "start Studio; until then course runs can't be made or copied"
                return Check(name, "warning", f"{service.purpose}: {url}: {error}", fix)
        if not answer.is_success:
            return Check(name, "failed", f"{service.purpose}: {url} answers {answer.status_code}")
        purposes.append(service.purpose)
    return Check(name, "ok", f"tokens and rights for {' and '.join(purposes)}")


def connected_names(description: Description, addresses: Addresses) -> set[str] | None:
    """Returns the names of the applications that the running LMS is connected to; None if the LMS
    gives no report."""
    try:
        with httpx.Client(headers=agents.CONNECT, timeout=TIMEOUT) as client:
            workers = [
                application.service_worker
                for application in description.applications_with_service_workers()
            ]
            # Any service worker may read the report.
            worker = next(filter(None, workers), None)
            report = _fetch_report(client, worker, addresses)
    except (httpx.HTTPError, ToolFailed):
        return None
    return {connection["name"] for connection in report.get("connections", [])}


def _fetch_report(
    client: httpx.Client, worker: ServiceWorker | None, addresses: Addresses
) -> dict[str, Any]:
    """Returns the LMS's ``usher_report`` about its own web server process. Raises ToolFailed."""
    url = addresses.lms_url + LmsPath.USHER_REPORT
    answer = client.get(url, headers=_authorization_of(worker))
    if not answer.is_success:
        raise ToolFailed(f"{url} answers {answer.status_code}")
    return json_object(answer.content)


def _check_lms_reaches_application(
    client: httpx.Client, description: Description, application: Application, addresses: Addresses
) -> Check:
    """Checks that the LMS's server reaches the application."""
    worker = description.service_worker_of(application.name)
    for probe in _fetch_report(client, worker, addresses).get("token_probes", []):
        if probe.get("backend_name") == application.backend:
            if probe.get("oauth_error") == "invalid_grant":
                return Check("from-the-lms", "ok", f"reaches {probe['url']}")
            problem = probe.get("error") or probe.get("oauth_error")
            status = f"answers {probe.get('status')}, not as an OAuth token endpoint"
            seen = f"{probe['url']}: {problem or status}"
            fix = "give the address for the LMS's containers with --server-url"
            return Check("from-the-lms", "failed", seen, fix)
    return Check("from-the-lms", "failed", f"the LMS has no record of {application.backend}")


def _check_from_the_application(report: dict[str, Any], addresses: Addresses) -> Check:
    """Checks that the application's server reaches the LMS."""
    status = report["lms_status"]
    if status == httpx.codes.OK:
        return Check("from-the-application", "ok", f"reaches {addresses.lms_server_url}")
    fix = "give the LMS's address for the application's server with --lms-server-url"
    seen = f"{addresses.lms_server_url}: {status}"
    return Check("from-the-application", "failed", seen, fix)


def _check_settings_in_force(
    report: dict[str, Any],
    target: TargetApplication,
    description: Description,
    addresses: Addresses,
) -> Check:
    """Checks that the running application uses the values that were written. report: the
    application's own, made after the values were written."""
    expected = target.env_values(description, addresses)
    actual = report["settings"]
    wrong_settings = [
        key
        for key, value in actual.items()
        # None: the application has no such setting.
        if value is not None and key in expected and value != expected[key]
    ]
    if not wrong_settings:
        compared = sum(value is not None for value in actual.values())
        return Check(
            "settings-in-force", "ok", f"{compared} settings as in {target.checkout.env_file}"
        )
    fix = f"they are set elsewhere too: look in {target.checkout.env_file} and the compose file"
    return Check("settings-in-force", "failed", f"{', '.join(wrong_settings)} differ", fix)


def _sign_in_target(
    lms: Lms,
    target: TargetApplication,
    application: Application,
    description: Description,
    addresses: Addresses,
) -> sign_in.Target:
    worker = description.service_worker_of(target.name)
    return sign_in.Target(
        lms_url=addresses.lms_url,
        logs_command=lms.logs_command,
        application_url=target.url,
        backend=application.backend,
        token=worker.token if worker else "",
        has_gateway=bool(target.facts.get("gateway")),
    )


def _check_sign_in_page(sign_in_target: sign_in.Target) -> Check:
    """Checks that an anonymous visitor is sent from the LMS to the application's sign-in page."""
    try:
        return Check("sign-in-page", "ok", sign_in.prove_as_anonymous(sign_in_target))
    except BrokenError as error:
        return Check("sign-in-page", "failed", str(error), error.fix)


def _check_learner(sign_in_target: sign_in.Target, target: TargetApplication) -> Check:
    """Checks that a test learner can sign in to the LMS through the application, up to a course.

    The learner is removed again; a warning says what could not be removed.
    """
    try:
        proof = sign_in.prove_with_test_learner(sign_in_target, target.manage.run_learner_script)
    except BrokenError as error:
        return Check("learner", "failed", str(error), error.fix)
    if proof.leftovers:
        return Check(
            "learner", "warning", f"{proof.summary}; {proof.leftovers}", "see the LMS's admin"
        )
    return Check("learner", "ok", proof.summary)


def _check_sync(target: TargetApplication) -> Check:
    """Runs the application's own command that reads course runs from the LMS."""
    commands: list[str] = target.facts.get("commands", [])
    if target.checkout.sync_command and target.checkout.sync_command[0] in commands:
        return _run_command("sync", outputs.check_of_sync, target, *target.checkout.sync_command)
    if "sync_courserun" in commands:
        return _run_command("sync", outputs.check_of_sync, target, "sync_courserun", "--all", "ALL")
    if "sync_courseruns" in commands:
        return _run_command("sync", outputs.check_of_sync, target, "sync_courseruns")
    return Check("sync", "skipped", "the application has no sync command that Usher knows")


def _check_repair(target: TargetApplication) -> Check:
    """Runs the application's own command that creates missing LMS accounts."""
    if REPAIR_COMMAND not in target.facts.get("commands", []):
        return Check("repair", "skipped", "the application has no repair command that Usher knows")
    return _run_command("repair", outputs.check_of_repair, target, REPAIR_COMMAND)


def _run_command(
    name: str, parse: Callable[[str, Output], Check], target: TargetApplication, *command: str
) -> Check:
    """Runs a management command of the application. parse: returns the result of a command that
    prints no JSON."""
    arguments = [*command, "--json"] if target.facts.get("usher") else list(command)
    try:
        output = target.manage.run_command(*arguments)
    except ToolFailed as error:
        summary = outputs.check_of_summary(name, command[0], error.stdout)
        return summary or outputs.check_of_failure(name, command[0], error)
    summary = outputs.check_of_summary(name, command[0], output.stdout)
    return summary or parse(command[0], output)


def _oauth_error(answer: httpx.Response) -> str:
    """Returns the answer's OAuth error code; its HTTP status if it has none."""
    return str(json_object(answer.content).get("error") or answer.status_code)
