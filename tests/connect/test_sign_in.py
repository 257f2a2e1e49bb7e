"""The journey of a temporary learner, on small servers that answer as application and LMS do."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.connect.test_application import ADDRESSES
from tests.support.shapes import Shape
from usher.connect import checks, manual
from usher.connect.application.checkout import ApplicationOptions, recognise
from usher.connect.application.side import Addresses, Side
from usher.connect.errors import ToolFailed
from usher.connect.openedx.configuration import Choice
from usher.connect.process import Secrets
from usher.journey.sign_in import Target, as_anonymous, as_learner
from usher.journey.steps import BrokenError, LoopError

#: A page: a status, or the address of a redirect.
Pages = dict[str, Any]
RUN = "course-v1:edX+DemoX+Demo_Course"


class Served:
    """A served site. pages: path without query → page; a callable gets the request."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.asked: list[str] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length).decode()
                path = self.path.partition("?")[0]
                served.asked.append(f"{self.command} {path} {body}".strip())
                page = served.pages.get(path, 404)
                page = page(self) if callable(page) else page
                status = 302 if isinstance(page, str) and page.startswith("http") else page
                text = page if isinstance(page, str) and status == page else ""
                self.send_response(status if isinstance(status, int) else 200)
                if status == 302:
                    self.send_header("Location", str(page))
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = answer

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Pages], Served]]:
    made: list[Served] = []

    def start(pages: Pages) -> Served:
        made.append(Served(pages))
        return made[-1]

    yield start
    for server in made:
        server.close()


@pytest.fixture
def both(serve: Callable[[Pages], Served]) -> tuple[Served, Served]:
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
    """Replaces ``learner.py`` in the application, and also creates the learner in the LMS."""

    def __init__(self, lms: Served) -> None:
        self.lms = lms
        self.there: set[str] = set()

    def __call__(self, params: dict[str, Any]) -> dict[str, Any]:
        name = params["username"]
        if params["action"] == "remove":
            self.there.discard(name)
            return {"removed": 1}
        self.there.add(name)
        self.lms.pages["/api/user/v1/me"] = f'{{"username": "{name}"}}'
        self.lms.pages[f"/api/user/v1/accounts/{name}"] = "{}"
        return {"cookie": "shop_session", "session": "signed"}


def target(lms: Served, application: Served, *, gateway: bool = False) -> Target:
    return Target(lms.url, application.url, "ol-oauth2", "token", gateway=gateway)


def test_a_chain_that_works(both: tuple[Served, Served]):
    lms, application = both
    learners = Learners(lms)
    said = as_anonymous(target(*both))
    assert said == f"people sign in at {application.url}/signin/"
    proof = as_learner(target(*both), learners)
    assert proof.said.endswith(f"was enrolled in {RUN} and opened it, and was removed")
    assert (proof.left, learners.there) == ("", set())
    assert any('"is_active":false' in each.replace(" ", "") for each in lms.asked)


def test_a_sign_in_loop_is_named_with_its_cause(both: tuple[Served, Served]):
    """As MITx Online at its own port, while people can sign in only at its API gateway."""
    lms, application = both
    application.pages["/oauth2/authorize/"] = f"{application.url}/login/"
    application.pages["/login/"] = f"{application.url}/oauth2/authorize/"
    with pytest.raises(LoopError, match=r"sign-in never ends: .*/oauth2/authorize/ and .*/login/"):
        as_anonymous(target(*both))
    with pytest.raises(LoopError) as raised:
        as_anonymous(target(*both, gateway=True))
    assert "API gateway only" in raised.value.fix
    learners = Learners(lms)
    with pytest.raises(LoopError):
        as_learner(target(*both, gateway=True), learners)
    assert learners.there == set()  # removed although nothing worked


@pytest.mark.parametrize(
    ("side", "path", "page", "says"),
    [
        ("lms", "/auth/login/ol-oauth2/", 500, "which answers 500"),
        ("lms", "/auth/login/ol-oauth2/", 200, "a page of the LMS"),
        ("application", "/signin/", 502, "which answers 502"),
        ("application", "/oauth2/authorize/", "http://127.0.0.1:9/", "was not followed"),
    ],
)
def test_what_somebody_unknown_meets(
    both: tuple[Served, Served], side: str, path: str, page: Any, says: str
):
    {"lms": both[0], "application": both[1]}[side].pages[path] = page
    try:
        said = as_anonymous(target(*both))
    except BrokenError as error:
        said = str(error)
    assert says in said


@pytest.mark.parametrize(
    ("path", "page", "says"),
    [
        ("/api/user/v1/me", 401, "not signed in there"),
        ("/api/user/v1/me", '{"username": "other"}', "is signed in to the LMS as other"),
        ("/api/enrollment/v1/enrollment", 403, "enrolling usher-test-"),
        (f"/courses/{RUN}/course/", 404, "with 404"),
    ],
)
def test_the_link_that_breaks_is_named(
    both: tuple[Served, Served], path: str, page: Any, says: str
):
    lms = both[0]
    learners = Learners(lms)

    def script(params: dict[str, Any]) -> dict[str, Any]:
        made = learners(params)
        lms.pages[path] = page
        return made

    with pytest.raises(BrokenError, match=says):
        as_learner(target(*both), script)
    assert learners.there == set()


def test_records_that_remain_in_the_lms_are_named(both: tuple[Served, Served]):
    lms = both[0]
    lms.pages["/usher/api/v1/accounts/"] = 404
    proof = as_learner(target(*both), Learners(lms))
    assert "is still active" in proof.left
    assert not proof.said.endswith("was removed")


def fails(text: str) -> Callable[[BaseHTTPRequestHandler], str]:
    """A page that answers 500 with this text."""

    def page(request: BaseHTTPRequestHandler) -> str:
        request.send_response = lambda *_: BaseHTTPRequestHandler.send_response(request, 500)  # type: ignore[method-assign]
        return text

    return page


def test_a_sign_in_page_that_fails_by_itself_is_named_with_what_it_says(
    both: tuple[Served, Served],
):
    said = "<h1>ProgrammingError at /signin/</h1> relation &quot;durable_cache&quot; does not exist"
    both[1].pages["/signin/"] = fails(said)
    with pytest.raises(BrokenError, match="answers 500: ProgrammingError at /signin/") as raised:
        as_anonymous(target(*both))
    assert "make its table durable_cache: manage.py migrate" in raised.value.fix
    both[1].pages["/signin/"] = fails("<h1>KeyError at /signin/</h1>")
    with pytest.raises(BrokenError, match="KeyError") as raised:
        as_anonymous(target(*both))
    assert "read the log of the server at 127.0.0.1" in raised.value.fix


def test_an_lms_without_one_of_its_stores_is_up(
    serve: Callable[[Pages], Served], monkeypatch: pytest.MonkeyPatch
):
    lms = serve({"/heartbeat": 503, "/api/user/v1/me": 401})
    checks.wait_for_lms(Addresses(lms.url, lms.url, with_gateway=False))
    lms.pages["/api/user/v1/me"] = 503  # a proxy without its LMS
    monkeypatch.setattr(checks, "START_SECONDS", 0.0)
    with pytest.raises(ToolFailed, match=r"did not come up within 0 seconds: .* answers 503"):
        checks.wait_for_lms(Addresses(lms.url, lms.url, with_gateway=False))


def test_an_lms_whose_heartbeat_is_slow_is_up(
    serve: Callable[[Pages], Served], monkeypatch: pytest.MonkeyPatch
):
    answered = threading.Event()

    def slow(_: BaseHTTPRequestHandler) -> str:
        answered.wait(60)
        return "at last"

    monkeypatch.setattr(checks, "TIMEOUT", 0.5)
    lms = serve({"/heartbeat": slow, "/api/user/v1/me": 401})
    try:
        checks.wait_for_lms(Addresses(lms.url, lms.url, with_gateway=False))
    finally:
        answered.set()


def test_waiting_for_a_server_is_shown(
    serve: Callable[[Pages], Served],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(checks, "SAY_SECONDS", 0.0)
    lms = serve({"/heartbeat": 502, "/api/user/v1/me": 502})
    asked = []

    def meanwhile() -> None:
        asked.append(1)
        if len(asked) == 3:
            lms.pages["/heartbeat"] = "OK"

    checks.wait_for_lms(Addresses(lms.url, lms.url, with_gateway=False), meanwhile)
    said = capsys.readouterr().err
    assert f"waiting for {lms.url}, " in said
    assert f"of at most 300 seconds: {lms.url} answers 502" in said


def test_an_application_that_signs_out_by_post_only_is_reported(
    serve: Callable[[Pages], Served],
):
    def told(status: int | str, gateway: str = "") -> list[str]:
        served = serve({"/logout/": status})
        title = SimpleNamespace(title="MIT xPro")
        return manual._sign_out(
            SimpleNamespace(url=served.url, gateway_url=gateway, checkout=title)  # type: ignore[arg-type]
        )

    assert "leaves them signed in to MIT xPro: it signs out by POST only" in told(405)[0]
    assert told("signed out") == told(302) == told(405, gateway="http://gateway") == []


# -- an application in the shape of MITx Online


@pytest.fixture
def shape(tmp_path: Path) -> Shape:
    return Shape(tmp_path / "mitxonline", "mitxonline")


def side_of(shape: Shape, **more: str) -> Side:
    wishes = ApplicationOptions(
        str(shape.folder), edition="mitxonline", manage=shape.command, **more
    )
    side = Side(recognise(wishes), wishes, Secrets())
    side.probe(None, ADDRESSES)
    return side


@pytest.mark.slow
def test_the_gateway_is_used_where_people_sign_in(shape: Shape):
    shape.set(MITX_ONLINE_BASE_URL="http://mitxonline.odl.local:8013", APISIX_PORT="9090")
    side = side_of(shape)
    assert side.url == "http://mitxonline.odl.local:9090"
    entry = side.entry(Choice("ol-oauth2", "ol-oauth2"))
    # Browsers use the gateway; the LMS's server sends requests to the application itself.
    assert entry["root_url"] == "http://mitxonline.odl.local:9090"
    assert entry["server_url"] == entry["gateway_url"] == "http://mitxonline.odl.local:8013"
    # Its own /logout/ redirects to the gateway's page at the application's address, which has no
    # gateway.
    assert entry["logout_url"] == "http://mitxonline.odl.local:9090/logout/oidc"
    told = side_of(shape, url="http://mitxonline.odl.local:8013")
    assert told.url == "http://mitxonline.odl.local:8013"  # the operator's choice counts


def test_an_application_gets_oauth_clients_for_its_services(shape: Shape):
    side = side_of(shape)
    entry = side.entry(Choice("ol-oauth2", "ol-oauth2"))
    assert entry["service_clients"] == ["courses", "retirement"]
    planned = side.planned_env(replace(ADDRESSES, studio_url="http://studio.example:8001"))
    assert planned["OPENEDX_STUDIO_API_BASE_URL"] == "http://studio.example:8001"
    pairs = [key for key in planned if "_SERVICE_WORKER_CLIENT_" in key]
    assert len(pairs) == 4
    # An application without such a setting gets none.
    side.facts["readable"] = []
    assert "service_clients" not in side.entry(Choice("ol-oauth2", "ol-oauth2"))


def test_a_temporary_learner_is_created_with_a_session_and_removed(shape: Shape):
    side = side_of(shape)
    made = side.manage.test_learner({"action": "make", "username": "usher-test-1"})
    assert made["cookie"] == "mitxonline_sessionid"
    assert len(made["session"]) > 20  # signed_cookies: the cookie contains the session
    counted = "from users.models import User\nfrom openedx.models import OpenEdxUser\n"
    counted += "result = [User.objects.count(), OpenEdxUser.objects.get().edx_username]"
    assert shape.run(counted) == [1, "usher-test-1"]
    assert (
        side.manage.test_learner({"action": "remove", "username": "usher-test-1"})["removed"] == 1
    )
    assert shape.run("from users.models import User\nresult = User.objects.count()") == 0
