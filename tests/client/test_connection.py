"""Connections to servers, some of which violate the HTTP protocol."""

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from usher.client.connection import Connection
from usher.client.errors import BadAnswer, LmsError, TimedOut, Unreachable
from usher.client.http import Http
from usher.client.outgoing import Outgoing
from usher.client.shared import LocalState

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"
#: Answers the requests of one connection.
Serving = Callable[[socket.socket], None]


@contextmanager
def server(serve: Serving, wrap: Callable[[socket.socket], socket.socket] | None = None):
    """Starts a server. Yields its address, and a list to which each accepted connection is added.

    serve: answers the requests of one connection. wrap: adds TLS to an accepted connection."""
    listening = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                peer, _ = listening.accept()
            except OSError:  # the test has closed the server
                return
            accepted.append(peer)
            with suppress(OSError):  # the client may close the connection
                connection = wrap(peer) if wrap else peer
                with connection:
                    serve(connection)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", accepted
    finally:
        listening.close()


def read_request(peer: socket.socket) -> bytes:
    """Reads at least to the end of a request's headers. Returns b"" if the client closed the
    connection."""
    received = b""
    while b"\r\n\r\n" not in received:
        if not (part := peer.recv(65536)):
            return b""
        received += part
    return received


def answers(*parts: bytes) -> Serving:
    """A function for ``server`` that answers each request with all ``parts``."""

    def serve(peer: socket.socket) -> None:
        while read_request(peer):
            for part in parts:
                peer.sendall(part)

    return serve


def answers_once(*parts: bytes) -> Serving:
    """A function for ``server`` that answers the first request of a connection with all ``parts``,
    and then closes the connection."""

    def serve(peer: socket.socket) -> None:
        if read_request(peer):
            for part in parts:
                peer.sendall(part)

    return serve


def client(url: str, *, timeout: float = 30.0) -> Http:
    return Http(url, timeout=timeout, state=LocalState())


def test_several_requests_use_one_connection() -> None:
    with server(answers(OK)) as (url, accepted):
        http = client(url)
        for _ in range(3):
            assert http.request("GET", "/").json() == {}
    assert len(accepted) == 1


def test_a_connection_that_the_lms_closed_is_replaced_by_a_new_one() -> None:
    with server(answers_once(OK)) as (url, accepted):
        http = client(url)
        for _ in range(3):
            assert http.request("POST", "/", again=False).json() == {}
            while accepted[-1].fileno() != -1:  # until the server has closed the connection
                time.sleep(0.01)
    assert len(accepted) == 3


@pytest.mark.parametrize(
    "answer_before_closing",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
    ],
)
def test_an_answer_of_a_server_that_then_closes_the_connection_is_read(
    answer_before_closing: bytes,
) -> None:
    with server(answers_once(answer_before_closing)) as (url, accepted):
        http = client(url)
        for _ in range(2):
            assert http.request("GET", "/", again=False).body == b"{}"
    assert len(accepted) == 2


def test_a_chunked_answer_is_read() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
    with server(answers(chunked)) as (url, accepted):
        http = client(url)
        for _ in range(2):
            assert http.request("GET", "/", again=False).body == b"{}"
    assert len(accepted) == 1


@pytest.mark.parametrize("count", [1, 5000])
def test_surplus_bytes_after_an_answer_do_not_become_the_next_answer(count: int) -> None:
    with server(answers(OK + OK.replace(b"{}", b"[]") * count)) as (url, _):
        http = client(url)
        for _ in range(3):
            assert http.request("GET", "/", again=False).body == b"{}"


def test_a_status_100_continue_before_the_answer_is_skipped() -> None:
    with server(answers(b"HTTP/1.1 100 Continue\r\n\r\n", OK)) as (url, _):
        assert client(url).request("GET", "/", again=False).status == 200


@pytest.mark.parametrize(
    "malformed_answer",
    [
        # No HTTP, or no status of an answer.
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 secret OK\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n",
        # Malformed headers.
        b"HTTP/1.1 200 OK\r\nno header secret\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n folded: secret\r\nContent-Length: 2\r\n\r\n{}",
        # A body that ends too early, or whose chunks can't be read.
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n",
        # Too many headers, a header that is too long, and no answer at all.
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"",
    ],
)
def test_the_error_about_a_malformed_answer_does_not_repeat_the_answer(
    malformed_answer: bytes,
) -> None:
    with server(answers_once(malformed_answer)) as (url, _), pytest.raises(Unreachable) as caught:
        client(url).request("GET", "/path", again=False)
    assert caught.value.code == "broken-off"
    assert "/path" in caught.value.message
    assert "secret" not in caught.value.message


def test_an_answer_sent_before_the_server_read_the_whole_request_is_read() -> None:
    refused = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"

    def serve(peer: socket.socket) -> None:
        read_request(peer)
        peer.sendall(refused)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(65536):
            pass

    with server(serve) as (url, _):
        answer = client(url).request("POST", "/", json_body="x" * 20_000_000, again=False)
    assert answer.status == 413


def test_a_request_that_the_server_does_not_read_times_out() -> None:
    test_is_over = threading.Event()

    def read_nothing(peer: socket.socket) -> None:
        test_is_over.wait()

    with server(read_nothing) as (url, _):
        with pytest.raises(TimedOut):
            client(url, timeout=0.5).request("POST", "/", json_body="x" * 50_000_000, again=False)
        test_is_over.set()


def test_characters_that_are_not_allowed_in_addresses_are_quoted() -> None:
    request_lines: list[bytes] = []

    def serve(peer: socket.socket) -> None:
        while received := read_request(peer):
            request_lines.append(received.partition(b"\r\n")[0])
            peer.sendall(OK)

    with server(serve) as (url, _):
        client(url).request("GET", "/a b/é\r\nX: y?c=ü&d=%2F+e", again=False)
    assert request_lines == [b"GET /a%20b/%C3%A9X:%20y?c=%C3%BC&d=%2F+e HTTP/1.1"]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for localhost, with its key in ``key.pem``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    path = tmp_path / "localhost.pem"
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    return path


class HttpsServer(NamedTuple):
    """url: its address. accepted: the connections that it has accepted."""

    url: str
    accepted: list[socket.socket]


@pytest.fixture
def https_server(certificate: Path) -> Iterator[HttpsServer]:
    """A server for https://localhost with ``certificate``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    wrap = lambda peer: context.wrap_socket(peer, server_side=True)  # noqa: E731
    with server(answers(OK), wrap) as (url, accepted):
        yield HttpsServer(url.replace("http://127.0.0.1", "https://localhost"), accepted)


def test_a_self_signed_certificate_is_refused(
    https_server: HttpsServer,
) -> None:
    with pytest.raises(Unreachable, match="certificate") as caught:
        client(https_server.url).request("GET", "/")
    assert caught.value.code == "no-connection"


def test_the_error_for_a_server_without_tls_says_that_tls_is_missing() -> None:
    def refuse(peer: socket.socket) -> None:
        peer.recv(1000)
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with server(refuse) as (url, _), pytest.raises(Unreachable) as caught:
        client(url.replace("http://", "https://")).request("GET", "/")
    assert re.search(r"answers at https:.*without TLS", caught.value.message)
    assert caught.value.code == "no-connection"


def test_a_certificate_for_another_host_is_refused(
    https_server: HttpsServer, certificate: Path
) -> None:
    url = https_server.url.replace("localhost", "127.0.0.1")
    connection = Connection(url, ssl.create_default_context(cafile=str(certificate)))
    with pytest.raises(Unreachable, match="certificate"):
        connection.exchange(Outgoing("GET", url, headers={}), timeout=30)


def test_several_requests_use_one_connection_with_tls(
    https_server: HttpsServer, certificate: Path
) -> None:
    connection = Connection(https_server.url, ssl.create_default_context(cafile=str(certificate)))
    request = Outgoing("GET", https_server.url, headers={})
    for _ in range(3):
        assert connection.exchange(request, timeout=30).body == b"{}"
    assert len(https_server.accepted) == 1


def test_an_answer_with_an_unknown_content_encoding_is_an_error() -> None:
    unknown_encoding = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{}"
    with server(answers(unknown_encoding)) as (url, _), pytest.raises(BadAnswer):
        client(url).request("GET", "/", again=False)


def test_the_request_after_an_error_uses_a_new_connection() -> None:
    half_answer = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}"
    first_answers = iter([half_answer])

    def serve(peer: socket.socket) -> None:
        while read_request(peer):
            part = next(first_answers, OK)
            peer.sendall(part)
            if part is half_answer:
                return

    with server(serve) as (url, accepted):
        http = client(url)
        with pytest.raises(LmsError):
            http.request("GET", "/", again=False)
        assert http.request("GET", "/", again=False).status == 200
    assert len(accepted) == 2
