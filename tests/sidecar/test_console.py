"""The pages and metrics of ``--watch``: who may open them, and their contents."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx
import pytest

from tests.sidecar.conftest import System, name_for
from tests.sidecar.test_reconcile import reconcile_command, wait_until
from usher.client.http import Exchange
from usher.sidecar import metrics
from usher.sidecar.command import _serve
from usher.sidecar.console import server
from usher.sidecar.output import ReconcileOutput
from usher.sidecar.reconcile import KINDS
from usher.sidecar.summary import DONE, REFUSED, Summary
from usher.sidecar.watch_state import WatchState

#: A run that the LMS does not have.
NOWHERE = "course-v1:Nowhere+1+1"


@pytest.fixture
def links() -> list[str]:
    """The links that the server at ``address`` printed."""
    return []


@pytest.fixture
def watch_state() -> WatchState:
    """The state before the first pass."""
    return WatchState()


@pytest.fixture
def address(watch_state: WatchState, links: list[str]) -> Iterator[str]:
    """The address of a running server, whose pages show ``watch_state``."""
    with server.serve_pages(watch_state, port=0, print_link=links.append) as base_url:
        yield base_url


def summary_with_a_refusal(record: str = "ada@x.example in course-v1:a+b+c") -> Summary:
    """A refused enrollment, whose reason has characters that HTML must escape, and an account."""
    summary = Summary()
    summary.add("enrollment", REFUSED, record, "<b>closed</b> & full (course-full)", "course-full")
    summary.add("account", DONE)
    return summary


def test_a_link_signs_one_browser_in_once(address: str, links: list[str]) -> None:
    with httpx.Client(base_url=address, trust_env=False) as browser:
        assert browser.get("/").status_code == 403
        assert browser.get("/open?key=").status_code == 403
        (link,) = links
        opened = browser.get(link.removeprefix(address))
        assert (opened.status_code, opened.headers["location"]) == (303, "/")
        cookie = opened.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        page = browser.get("/")
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        # The page's own empty icon, without which browsers log an error.
        assert "img-src data:" in policy
        assert browser.get("/nowhere/").status_code == 404
    with httpx.Client(base_url=address, trust_env=False) as other:
        assert other.get(link.removeprefix(address)).status_code == 403
        other.cookies.set(cookie.split("=")[0], "guessed")
        assert other.get("/").status_code == 403


@pytest.mark.parametrize(
    "other_cookie", ['settings={"a": 1, "b": [2]}', "odd[name]=1", "é=\xff", "x"]
)
def test_cookies_of_other_programs_on_this_machine_do_not_sign_out(
    address: str, links: list[str], other_cookie: str
) -> None:
    """Browsers send the cookies of a host to all of its ports."""
    opened = httpx.get(links[0], trust_env=False)
    own_cookie = opened.headers["set-cookie"].partition(";")[0]
    for cookies in (f"{other_cookie}; {own_cookie}", f"{own_cookie}; {other_cookie}"):
        headers = {"Cookie": cookies.encode("latin-1")}
        assert httpx.get(address, headers=headers, trust_env=False).status_code == 200
    headers = {"Cookie": f"{other_cookie}; {own_cookie}x".encode("latin-1")}
    assert httpx.get(address, headers=headers, trust_env=False).status_code == 403


def test_a_visitor_without_a_link_causes_a_new_link_in_the_terminal(
    address: str, links: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with httpx.Client(base_url=address, trust_env=False) as browser:
        browser.get("/")
        assert len(links) == 1  # no second link, because the first was printed just now
        monkeypatch.setattr(server, "_SECONDS_BETWEEN_LINKS", 0.0)
        browser.get("/")
        first, second = links
        assert second != first
        assert browser.get(first.removeprefix(address)).status_code == 403
        assert browser.get(links[-1].removeprefix(address)).status_code == 303


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "x@127.0.0.1", "", "["],
)
def test_requests_with_another_host_name_are_refused(
    address: str, links: list[str], host: str
) -> None:
    name, port = address.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(name, int(port), timeout=20)
    path = links[0].removeprefix(address)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host.format(port=port))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == HTTPStatus.MISDIRECTED_REQUEST
    assert answer.getheader("Set-Cookie") is None
    connection.close()
    # The link still works after these requests, also on another port, such as a forwarded one.
    response = httpx.get(links[0], headers={"Host": "localhost:9"}, trust_env=False)
    assert response.status_code == 303


def test_a_malformed_request_target_is_answered_with_400(address: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    connection.putrequest("GET", "http://[", skip_host=True)
    connection.putheader("Host", urlsplit(address).netloc)
    connection.endheaders()
    assert connection.getresponse().status == 400
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/", 501), ("DELETE", "/", 501), ("GET", "/a b", 400)]
)
def test_pages_about_errors_have_the_headers_of_the_other_pages(
    address: str, method: str, path: str, status: int
) -> None:
    own_page = httpx.get(address, trust_env=False)
    with socket.create_connection(server_address(address), timeout=60) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
    assert answer.status == status
    for name in server._HEADERS:
        assert answer.headers.get_all(name) == [own_page.headers[name]]


def server_address(address: str) -> tuple[str, int]:
    """The host and the port of an address."""
    parts = urlsplit(address)
    return str(parts.hostname), int(parts.port or 0)


def test_the_pages_listen_on_loopback_only(address: str) -> None:
    assert address.startswith("http://127.0.0.1:")


def test_the_pages_show_refusals_and_escape_texts_of_the_lms(
    address: str, links: list[str], watch_state: WatchState
) -> None:
    with httpx.Client(base_url=address, trust_env=False) as browser:
        browser.get(links[0].removeprefix(address))
        assert "The first pass is in progress." in browser.get("/").text
        watch_state.record_pass(Summary())
        watch_state.record_success()
        assert "The LMS has the desired state." in browser.get("/").text
        for _ in range(2):
            watch_state.record_pass(summary_with_a_refusal())
        assert "1 record is refused." in browser.get("/").text
        page = browser.get("/refusals/").text
        assert "&lt;b&gt;closed&lt;/b&gt; &amp; full" in page
        assert "<b>closed" not in page
        watch_state.record_trouble("The LMS fails <i>.", wait=3.0)
        assert "The LMS fails &lt;i&gt;. Tried again in" in browser.get("/").text
        assert "can&#x27;t be asked now" in browser.get("/learners/?q=%3Ci%3E%00").text
        assert browser.get("/console.css").headers["content-type"].startswith("text/css")


def test_metrics_count_outcomes_passes_and_requests() -> None:
    recorded_metrics = metrics.Metrics()
    watch_state = WatchState(recorded_metrics)
    watch_state.record_pass(summary_with_a_refusal())
    with watch_state.measure_request(Exchange("GET", "accounts", status=200)):
        pass  # one request, which is counted when the block ends
    with metrics.serve_metrics(recorded_metrics, host="127.0.0.1", port=0) as port:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    assert 'usher_outcomes_total{kind="account",outcome="changed"} 1.0' in text
    assert 'usher_outcomes_total{kind="enrollment",outcome="rejected"} 1.0' in text
    assert 'usher_refused_rows{code="course-full",kind="enrollment"} 1.0' in text
    assert "usher_passes_total 1.0" in text
    assert 'usher_lms_request_seconds_count{group="accounts",result="2xx"} 1.0' in text
    assert 'usher_lms_request_seconds_count{group="accounts",result="5xx"} 0.0' in text
    assert "ada@x.example" not in text


def test_a_row_that_is_refused_for_another_reason_has_the_new_code(watch_state: WatchState) -> None:
    for code in ("course-full", "enrollment-closed"):
        summary = Summary()
        summary.add("enrollment", REFUSED, "ada@x.example", f"refused ({code})", code)
        watch_state.record_pass(summary)
    (row,) = watch_state.refused()
    assert (row.code, row.reason) == ("enrollment-closed", "refused (enrollment-closed)")


def test_counters_of_outcomes_begin_at_zero() -> None:
    """Prometheus doesn't count the first value of a new series as an increase."""
    recorded_metrics = metrics.Metrics()
    for kind in KINDS:
        for outcome in ("changed", "rejected", "transient", "waits"):
            labels = {"kind": kind, "outcome": outcome}
            assert recorded_metrics.registry.get_sample_value("usher_outcomes_total", labels) == 0


def test_pages_on_all_addresses_require_the_link(watch_state: WatchState, links: list[str]) -> None:
    with server.serve_pages(
        watch_state, port=0, print_link=links.append, host=server.ALL_INTERFACES
    ) as base_url:
        port = urlsplit(base_url).port
        assert links[0].startswith(f"http://127.0.0.1:{port}/open?key=")
        # Requests to a port that Docker publishes arrive at another address than 127.0.0.1, too.
        other_address, host = f"http://127.0.0.3:{port}", {"Host": f"localhost:{port}"}
        with httpx.Client(base_url=other_address, headers=host, trust_env=False) as browser:
            assert browser.get("/").status_code == 403
            assert browser.get("/open?key=guessed").status_code == 403
            assert (
                browser.get("/", headers={"Host": "evil.example"}).status_code
                == HTTPStatus.MISDIRECTED_REQUEST
            )
            link = urlsplit(links[0])
            # The link can be used once.
            assert browser.get(f"{link.path}?{link.query}").status_code == 303
            assert browser.get(f"{link.path}?{link.query}").status_code == 403
            assert browser.get("/").status_code == 200


def test_the_link_names_the_address_on_which_the_pages_listen(
    watch_state: WatchState, links: list[str]
) -> None:
    with server.serve_pages(
        watch_state, port=0, print_link=links.append, host="127.0.0.2"
    ) as base_url:
        assert base_url.startswith("http://127.0.0.2:")
        with httpx.Client(trust_env=False) as browser:
            assert browser.get(links[0]).status_code == 303
            with pytest.raises(httpx.ConnectError):
                browser.get(base_url.replace("127.0.0.2", "127.0.0.1"))


@pytest.mark.parametrize(
    ("host", "is_warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)]
)
def test_listening_beyond_loopback_causes_a_warning(
    host: str, is_warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with _serve(
        console_address=(host, 0), metrics_address="", output=ReconcileOutput(as_json=False)
    ):
        output = " ".join(capsys.readouterr().out.split())
    assert ("beyond this machine's loopback" in output) == is_warned


@pytest.mark.parametrize(
    "options", [("--console",), ("--metrics", "9"), ("--watch", "--dry-run", "--console")]
)
def test_console_and_metrics_require_watch_without_a_dry_run(
    system: System, options: tuple[str, ...]
) -> None:
    result = system.usher("reconcile", *options)
    assert result.exit_code == 2
    assert "need --watch" in result.output


def test_an_invalid_metrics_port_is_refused(system: System) -> None:
    result = system.usher("reconcile", "--watch", "--metrics", "localhost:http")
    assert result.exit_code == 2
    assert "[HOST:]PORT" in result.output


def test_the_operator_finds_a_refused_learner(system: System) -> None:
    name = name_for(system, "page")
    system.create_users(name)
    system.json("reconcile", "--kind", "account")
    system.create_enrollment(name, NOWHERE)
    with ExitStack() as stack:
        watcher = subprocess.Popen(
            reconcile_command(system, "--watch", "--console", "--metrics", "0"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        stack.callback(watcher.kill)
        assert watcher.stdout
        # The command prints the address of the metrics before the link to the pages.
        output = ""
        while "/open?key=" not in output:
            line = watcher.stdout.readline()
            assert line, output
            output += line
        link = re.search(r"http://127\.0\.0\.1:\d+/open\?key=\S+", output)
        metrics_url = re.search(r"http://127\.0\.0\.1:\d+/metrics", output)
        assert link
        assert metrics_url
        browser = stack.enter_context(httpx.Client(follow_redirects=True, trust_env=False))
        page = browser.get(link[0])
        address = f"http://{page.url.netloc.decode()}"
        wait_until(lambda: "refused" in browser.get(f"{address}/").text)
        html = browser.get(f"{address}/learners/", params={"q": f"{name}@example.org"}).text
        folder = str(system.application.folder)
        assert f"usher reconcile --application {folder} --user {name}@example.org" in html
        assert "unknown-run" in html
        assert NOWHERE in html
        assert "recorded as created" in html
        assert "not enrolled in the LMS yet" in html
        assert 'outcome="rejected"' in httpx.get(metrics_url[0], trust_env=False).text
        # The command ends although it serves pages.
        watcher.send_signal(signal.SIGTERM)
        out, _ = watcher.communicate(timeout=120)
        assert watcher.returncode == 0, out
