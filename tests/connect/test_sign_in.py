"""The journey of a test learner, with small servers in place of the application and the LMS."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.connect.test_application import ADDRESSES
from tests.support.stand_ins import StandIn
from usher.connect import checks, manual
from usher.connect.application.checkout import ApplicationOptions, recognise
from usher.connect.application.target import Addresses, TargetApplication
from usher.connect.errors import ToolFailed
from usher.connect.openedx.configuration import BackendChoice
from usher.connect.plan import Check
from usher.contract.editions import MITXPRO, Edition
from usher.contract.secret_values import Secrets
from usher.journey.sign_in import Target, prove_as_anonymous, prove_with_test_learner
from usher.journey.steps import BrokenError, LoopError

#: Path without query → page: a status, the address of a redirect, a body, or a function that gets
#: the request and returns one of these.
Pages = dict[str, Any]
#: The only course run of the LMS.
RUN = "course-v1:edX+DemoX+Demo_Course"
OL_OAUTH2 = BackendChoice(name="ol-oauth2", known_backend="ol-oauth2")


class Served:
    """A running server. It answers 404 for paths that are not in ``pages``. requests: method, path
    and body of each request so far."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.requests: list[str] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                """Answers with the page of the path: a status, an address to redirect to, or
                text."""
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length).decode()
                path, _, _ = self.path.partition("?")
                served.requests.append(f"{self.command} {path} {body}".strip())
                page = served.pages.get(path, 404)
                if callable(page):
                    page = page(self)
                if isinstance(page, int):
                    self.send_response(page)
                    text = ""
                elif page.startswith("http"):
                    self.send_response(302)
                    self.send_header("Location", page)
                    text = ""
                else:
                    self.send_response(200)
                    text = page
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = answer

            def log_message(self, *_: object) -> None:
                """Logs nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Pages], Served]]:
    """A function that starts a server. All its servers are stopped after the test."""
    servers: list[Served] = []

    def start(pages: Pages) -> Served:
        servers.append(Served(pages))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def lms_and_application(serve: Callable[[Pages], Served]) -> tuple[Served, Served]:
    """A working LMS and a working application."""
    lms, application = serve({}), serve({})
    lms.pages |= {
        "/auth/login/ol-oauth2/": f"{application.url}/oauth2/authorize/",
        "/auth/complete/ol-oauth2/": f"{lms.url}/dashboard",
        "/dashboard": 200,
        f"/courses/{RUN}/course/": 200,
        "/api/courses/v1/courses/": f'{{"results": [{{"course_id": "{RUN}"}}]}}',
        "/api/enrollment/v1/enrollment": 200,
        "/usher/api/v1/accounts/": '{"results": [{"status": "updated"}]}',
    }
    application.pages |= {
        "/oauth2/authorize/": lambda request: (
            f"{lms.url}/auth/complete/ol-oauth2/"
            if "shop_session=signed" in request.headers.get("Cookie", "")
            else f"{application.url}/signin/"
        ),
        "/signin/": 200,
    }
    return lms, application


class Learners:
    """Called in place of the script ``learner.py``. Creates the test learner in the LMS, too.
    usernames: those of the learners that exist. later_pages: path → page that the LMS gets as soon
    as a learner exists; ``{name}`` in a path is the learner's username."""

    def __init__(self, lms: Served, later_pages: Pages | None = None) -> None:
        self.lms = lms
        self.later_pages = later_pages or {}
        self.usernames: set[str] = set()

    def __call__(self, params: dict[str, Any]) -> dict[str, Any]:
        """Removes the learner, or creates it and returns its session in the application."""
        name = params["username"]
        if params["action"] == "remove":
            self.usernames.discard(name)
            return {"removed": 1}
        self.usernames.add(name)
        self.lms.pages["/api/user/v1/me"] = f'{{"username": "{name}"}}'
        self.lms.pages[f"/api/user/v1/accounts/{name}"] = "{}"
        for path, page in self.later_pages.items():
            self.lms.pages[path.format(name=name)] = page
        return {"cookie": "shop_session", "session": "signed"}


def target(lms: Served, application: Served, *, gateway: bool = False) -> Target:
    return Target(
        lms_url=lms.url,
        application_url=application.url,
        backend="ol-oauth2",
        token="token",
        has_gateway=gateway,
    )


def test_a_test_learner_signs_in_opens_a_course_and_is_removed(
    lms_and_application: tuple[Served, Served],
):
    lms, application = lms_and_application
    learners = Learners(lms)
    result = prove_as_anonymous(target(*lms_and_application))
    assert result == f"people sign in at {application.url}/signin/"
    proof = prove_with_test_learner(target(*lms_and_application), learners)
    assert proof.summary.endswith(f"was enrolled in {RUN} and opened it, and was removed")
    assert proof.leftovers == ""
    assert learners.usernames == set()
    # The learner's LMS account, which can't be removed, was deactivated.
    assert any('"is_active":false' in request.replace(" ", "") for request in lms.requests)


def test_the_fix_for_a_rejected_session_is_to_restart_the_application(
    lms_and_application: tuple[Served, Served],
):
    """The application does not accept the test learner's session, and shows its sign-in page."""
    lms, application = lms_and_application
    learners = Learners(lms, {"/api/user/v1/me": 401})
    application.pages["/oauth2/authorize/"] = f"{application.url}/signin/"
    with pytest.raises(BrokenError, match="the LMS did not sign the learner in") as raised:
        prove_with_test_learner(target(*lms_and_application), learners)
    assert "restart the application if its .env has changed: SECRET_KEY" in raised.value.fix


def test_the_fix_for_a_shared_session_cookie_is_another_host_name(
    lms_and_application: tuple[Served, Served],
):
    """The application and the LMS are on 127.0.0.1, and the LMS's session replaces the
    application's."""
    lms, application = lms_and_application
    learners = Learners(lms, {"/api/user/v1/me": 401})

    def script(params: dict[str, Any]) -> dict[str, Any]:
        session = learners(params)
        return {**session, "cookie": "sessionid"}

    application.pages["/oauth2/authorize/"] = f"{application.url}/signin/"
    with pytest.raises(BrokenError, match="the LMS did not sign the learner in") as raised:
        prove_with_test_learner(target(*lms_and_application), script)
    assert "use another host name for one of them" in raised.value.fix


def test_the_error_of_a_sign_in_loop_names_its_pages_and_the_fix(
    lms_and_application: tuple[Served, Served],
):
    """MITx Online's own address, for example, redirects in a loop if people can sign in only at its
    API gateway."""
    lms, application = lms_and_application
    application.pages["/oauth2/authorize/"] = f"{application.url}/login/"
    application.pages["/login/"] = f"{application.url}/oauth2/authorize/"
    pages = r"sign-in never ends: .*/oauth2/authorize/ and .*/login/"
    with pytest.raises(LoopError, match=pages) as raised:
        prove_as_anonymous(target(*lms_and_application))
    assert "MITOL_APIGATEWAY_DISABLE_MIDDLEWARE=False" in raised.value.fix
    with pytest.raises(LoopError) as raised:
        prove_as_anonymous(target(*lms_and_application, gateway=True))
    assert "API gateway only" in raised.value.fix
    learners = Learners(lms)
    with pytest.raises(LoopError):
        prove_with_test_learner(target(*lms_and_application, gateway=True), learners)
    assert learners.usernames == set()  # the learner is removed although sign-in failed


@pytest.mark.parametrize(
    ("system", "path", "page", "message"),
    [
        ("lms", "/auth/login/ol-oauth2/", 500, "which answers 500"),
        ("lms", "/auth/login/ol-oauth2/", 200, "a page of the LMS"),
        ("application", "/signin/", 502, "which answers 502"),
        ("application", "/oauth2/authorize/", "http://127.0.0.1:9/", "was not followed"),
    ],
)
def test_the_result_says_where_the_sign_in_of_an_anonymous_visitor_ends(
    lms_and_application: tuple[Served, Served], system: str, path: str, page: Any, message: str
):
    lms, application = lms_and_application
    server = lms if system == "lms" else application
    server.pages[path] = page
    try:
        result = prove_as_anonymous(target(*lms_and_application))
    except BrokenError as error:
        result = str(error)
    assert message in result


@pytest.mark.parametrize(
    ("path", "page", "message"),
    [
        ("/api/user/v1/me", 401, "the LMS did not sign the learner in"),
        ("/api/user/v1/me", "<html>", "names no learner"),
        ("/api/user/v1/me", '{"username": "other"}', "is signed in to the LMS as other"),
        ("/api/courses/v1/courses/", 500, "list of courses answers 500"),
        ("/api/courses/v1/courses/", "<html>", "list of courses answers 200"),
        ("/api/enrollment/v1/enrollment", 403, "enrolling usher-test-"),
        (f"/courses/{RUN}/course/", 404, "with 404"),
    ],
)
def test_the_error_of_a_failed_sign_in_names_the_request_that_failed(
    lms_and_application: tuple[Served, Served], path: str, page: Any, message: str
):
    lms, _ = lms_and_application
    learners = Learners(lms, {path: page})
    with pytest.raises(BrokenError, match=message):
        prove_with_test_learner(target(*lms_and_application), learners)
    assert learners.usernames == set()


@pytest.mark.parametrize("page", [404, "<html>", '{"results": [{"status": "refused"}]}'])
def test_the_proof_names_records_that_could_not_be_removed_from_the_lms(
    lms_and_application: tuple[Served, Served], page: Any
):
    lms, _ = lms_and_application
    lms.pages["/usher/api/v1/accounts/"] = page
    proof = prove_with_test_learner(target(*lms_and_application), Learners(lms))
    assert "is still active" in proof.leftovers
    assert not proof.summary.endswith("was removed")


def test_an_account_that_the_lms_does_not_show_does_not_count_as_removed(
    lms_and_application: tuple[Served, Served],
):
    lms, _ = lms_and_application
    learners = Learners(lms, {"/api/user/v1/accounts/{name}": 503})
    proof = prove_with_test_learner(target(*lms_and_application), learners)
    assert proof.leftovers.endswith("may still exist: the LMS answered 503")
    assert not proof.summary.endswith("was removed")


def failing_page(text: str) -> Callable[[BaseHTTPRequestHandler], str]:
    """A page that answers 500 with this text."""

    def page(request: BaseHTTPRequestHandler) -> str:
        # ``Served`` answers 200 if a page is a text.
        request.send_response = lambda *_: BaseHTTPRequestHandler.send_response(request, 500)  # type: ignore[method-assign]
        return text

    return page


def test_the_error_of_a_failing_sign_in_page_has_the_heading_of_the_page(
    lms_and_application: tuple[Served, Served],
):
    _, application = lms_and_application
    page = "<h1>ProgrammingError at /signin/</h1> relation &quot;durable_cache&quot; does not exist"
    application.pages["/signin/"] = failing_page(page)
    with pytest.raises(BrokenError, match="answers 500: ProgrammingError at /signin/") as raised:
        prove_as_anonymous(target(*lms_and_application))
    assert "create the missing table durable_cache: manage.py migrate" in raised.value.fix
    application.pages["/signin/"] = failing_page("<h1>KeyError at /signin/</h1>")
    with pytest.raises(BrokenError, match="KeyError") as raised:
        prove_as_anonymous(target(*lms_and_application))
    assert "read the log of the server at 127.0.0.1" in raised.value.fix
    assert "manage.py createcachetable" in raised.value.fix  # for a page without details


def addresses_of(lms: Served) -> Addresses:
    return Addresses(lms_url=lms.url, lms_server_url=lms.url, lms_on_this_machine=False)


def test_the_lms_counts_as_up_if_its_heartbeat_fails_and_its_api_answers(
    serve: Callable[[Pages], Served], monkeypatch: pytest.MonkeyPatch
):
    lms = serve({"/heartbeat": 503, "/api/user/v1/me": 401})
    checks.wait_for_lms(addresses_of(lms))
    lms.pages["/api/user/v1/me"] = 503  # a proxy without its LMS
    monkeypatch.setattr(checks, "START_SECONDS", 0.0)
    with pytest.raises(ToolFailed, match=r"did not come up within 0 seconds: .* answers 503"):
        checks.wait_for_lms(addresses_of(lms))


def test_the_lms_counts_as_up_if_its_heartbeat_is_slow_and_its_api_answers(
    serve: Callable[[Pages], Served], monkeypatch: pytest.MonkeyPatch
):
    test_is_over = threading.Event()

    def slow(_: BaseHTTPRequestHandler) -> str:
        test_is_over.wait(60)
        return "at last"

    monkeypatch.setattr(checks, "TIMEOUT", 0.5)
    lms = serve({"/heartbeat": slow, "/api/user/v1/me": 401})
    try:
        checks.wait_for_lms(addresses_of(lms))
    finally:
        test_is_over.set()


def test_progress_is_printed_while_connect_waits_for_a_server(
    serve: Callable[[Pages], Served],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(checks, "PROGRESS_SECONDS", 0.0)
    lms = serve({"/heartbeat": 502, "/api/user/v1/me": 502})
    failed_attempts = 0

    def meanwhile() -> None:
        nonlocal failed_attempts
        failed_attempts += 1
        if failed_attempts == 3:
            lms.pages["/heartbeat"] = "OK"

    checks.wait_for_lms(addresses_of(lms), meanwhile)
    output = capsys.readouterr().err
    assert f"waiting for {lms.url}, " in output
    words = " ".join(output.split())
    assert f"of at most 300 seconds: {lms.url} answers 502" in words
    assert max(map(len, output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("edition", "setting"),
    [(MITXPRO, "MITXPRO_SECURE_SSL_REDIRECT"), (None, "SECURE_SSL_REDIRECT")],
)
def test_the_check_of_an_application_that_redirects_to_https_names_the_setting(
    serve: Callable[[Pages], Served], edition: Edition | None, setting: str
):
    """MITx Online and MIT xPro redirect unless variables of their compose files are set."""
    served = serve({})
    target: Any = SimpleNamespace(
        url=served.url, own_url=served.url, checkout=SimpleNamespace(edition=edition)
    )

    def check_answers() -> Check:
        with httpx.Client() as client:
            return checks._check_application_answers(client, target)

    served.pages["/"] = served.url.replace("http:", "https:") + "/"
    check = check_answers()
    assert check.outcome == "failed"
    assert check.seen == f"{served.url} redirects to {served.pages['/']}"
    assert f"set {setting}=False" in check.fix
    served.pages["/"] = "https://learn.example.org/"  # the front page may be on another site
    assert check_answers().outcome == "ok"
    served.pages["/"] = 404
    assert check_answers().outcome == "ok"


def test_an_application_that_signs_out_by_post_only_is_reported(
    serve: Callable[[Pages], Served],
):
    def advice_about_sign_out(status: int | str, gateway: str = "") -> list[str]:
        """Connect's advice about an application that answers GET /logout/ with this status or text.
        gateway: the address of its API gateway, whose sign-out then counts."""
        served = serve({"/logout/": status})
        checkout = SimpleNamespace(title="MIT xPro")
        return manual._sign_out_warnings(
            SimpleNamespace(url=served.url, gateway_url=gateway, checkout=checkout)  # type: ignore[arg-type]
        )

    assert (
        "leaves them signed in to MIT xPro: it signs out by POST only"
        in advice_about_sign_out(405)[0]
    )
    assert (
        advice_about_sign_out("signed out")
        == advice_about_sign_out(302)
        == advice_about_sign_out(405, gateway="http://gateway")
        == []
    )


# -- a stand-in for MITx Online


@pytest.fixture
def application(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "mitxonline", "mitxonline")


def target_of(application: StandIn, **more_options: str) -> TargetApplication:
    """The application as connect has examined it. more_options: options of the command line."""
    options = ApplicationOptions(
        str(application.folder),
        edition="mitxonline",
        manage=application.manage_command,
        **more_options,
    )
    target = TargetApplication(recognise(options), options, Secrets())
    target.examine(application=None, addresses=ADDRESSES)
    return target


@pytest.mark.slow
def test_browsers_use_the_api_gateway_and_the_lms_server_uses_the_application_itself(
    application: StandIn,
):
    application.change_settings(
        MITX_ONLINE_BASE_URL="http://mitxonline.odl.local:8013", APISIX_PORT="9090"
    )
    target = target_of(application)
    assert target.url == "http://mitxonline.odl.local:9090"
    entry = target.make_entry(OL_OAUTH2)
    # Browsers use the gateway; the LMS's server sends requests to the application itself. In the
    # entry, ``gateway_url`` is the browsers' second address, here the application's own.
    assert entry["root_url"] == "http://mitxonline.odl.local:9090"
    assert entry["server_url"] == entry["gateway_url"] == "http://mitxonline.odl.local:8013"
    # The application's own /logout/ is not used, because it redirects to this path on the
    # application's own address, where no gateway answers.
    assert entry["logout_url"] == "http://mitxonline.odl.local:9090/logout/oidc"


@pytest.mark.slow
@pytest.mark.parametrize("host", ["mitxonline.odl.local", "localhost"])
def test_an_address_with_the_application_s_port_is_not_that_of_a_gateway(
    application: StandIn, host: str
):
    application.change_settings(MITX_ONLINE_BASE_URL="http://mitxonline.odl.local:8013")
    target = target_of(application, url=f"http://{host}:8013")
    assert target.url == f"http://{host}:8013"
    assert "logout_url" not in target.make_entry(OL_OAUTH2)


@pytest.mark.slow
def test_the_lms_opens_the_sign_out_of_a_gateway_whose_address_the_operator_gave(
    application: StandIn,
):
    application.change_settings(MITX_ONLINE_BASE_URL="http://localhost:8013")
    target = target_of(application, url="http://localhost:8090/")
    entry = target.make_entry(OL_OAUTH2)
    assert entry["root_url"] == target.gateway_url == "http://localhost:8090"
    assert entry["server_url"] == entry["gateway_url"] == "http://localhost:8013"
    assert entry["logout_url"] == "http://localhost:8090/logout/oidc"


def test_an_application_gets_the_service_clients_for_which_it_has_settings(application: StandIn):
    target = target_of(application)
    entry = target.make_entry(OL_OAUTH2)
    assert entry["service_clients"] == ["courses", "retirement"]
    planned = target.planned_env(replace(ADDRESSES, studio_url="http://studio.example:8001"))
    assert planned["OPENEDX_STUDIO_API_BASE_URL"] == "http://studio.example:8001"
    ids_and_secrets = [key for key in planned if "_SERVICE_WORKER_CLIENT_" in key]
    assert len(ids_and_secrets) == 2 * len(entry["service_clients"])
    # An application without such a setting gets none.
    target.facts["readable"] = []
    assert "service_clients" not in target.make_entry(OL_OAUTH2)


def test_a_temporary_learner_is_created_with_a_session_and_removed(application: StandIn):
    target = target_of(application)
    session = target.manage.run_learner_script({"action": "make", "username": "usher-test-1"})
    assert session["cookie"] == "mitxonline_sessionid"
    assert len(session["session"]) > 20  # signed_cookies: the cookie contains the session
    script = "from users.models import User\nfrom openedx.models import OpenEdxUser\n"
    script += "result = [User.objects.count(), OpenEdxUser.objects.get().edx_username]"
    assert application.run(script) == [1, "usher-test-1"]
    assert (
        target.manage.run_learner_script({"action": "remove", "username": "usher-test-1"})[
            "removed"
        ]
        == 1
    )
    assert application.run("from users.models import User\nresult = User.objects.count()") == 0
