"""Addresses are normalised, and malformed addresses are refused."""

import http.server
import ssl
import subprocess
import threading
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usher.client.addresses import BadAddress, base, normalise, origin
from usher.client.errors import Unreachable
from usher.client.http import Http
from usher.client.shared import LocalState


@pytest.mark.parametrize(
    ("address", "normalised"),
    [
        ("HTTPS://LMS.Example/", "https://lms.example"),
        ("Http://LMS.Example:80", "http://lms.example"),
        ("https://lms.example:443/a/", "https://lms.example/a"),
        ("https://lms.example:80", "https://lms.example:80"),
        ("http://lms.example:", "http://lms.example"),
        ("http://Bücher.Example:8000/", "http://xn--bcher-kva.example:8000"),
        ("http://straße.example", "http://xn--strae-oqa.example"),
        ("http://例え。テスト/", "http://xn--r8jz45g.xn--zckzah"),
        ("http://my_lms:8000", "http://my_lms:8000"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
        ("http://[2001:DB8:0::1]", "http://[2001:db8::1]"),
        ("http://172.17.0.1:8000", "http://172.17.0.1:8000"),
        ("http://lms.example./", "http://lms.example."),
    ],
)
def test_an_address_is_normalised_to_one_spelling(address, normalised):
    assert normalise(address) == normalised
    assert normalise(normalised) == normalised


@pytest.mark.parametrize(
    "address",
    [
        # A user name or a password.
        "http://user@lms.example",
        "https://user:secret@lms.example",
        "https://:secret@lms.example",
        "https://@lms.example",
        # Another scheme, or none.
        "ftp://lms.example",
        "lms.example",
        "//lms.example",
        "http:lms.example",
        # No host; an impossible port.
        "http:///path",
        "http://",
        "http://lms.example:0",
        "http://lms.example:99999",
        "http://lms.example:x",
        # Characters that browsers drop or read in another way; a fragment.
        "http://lms .example",
        "http://lms.example\n",
        "http://lms.ex\tample",
        "http://lms.example\\@evil.example",
        "http://lms.example/#x",
        # Malformed IPv6 addresses and host names.
        "http://[::1",
        "http://[v1.x]",
        "http://-lms.example",
        "http://lms..example",
        "http://%6cms.example",
        "http://lms\u200b\ud800.example",
        # Too long, or empty.
        "http://" + "a" * 300,
        "http://lms.example/" + "a" * 3000,
        "",
    ],
)
def test_a_malformed_address_is_refused_without_showing_it(address):
    with pytest.raises(BadAddress) as caught:
        normalise(address)
    assert "secret" not in str(caught.value)


def test_a_base_address_with_a_query_is_refused():
    assert normalise("http://lms.example/x?y=z") == "http://lms.example/x?y=z"
    with pytest.raises(BadAddress, match="query"):
        base("http://lms.example/?y=z")


@given(st.text(max_size=60))
def test_every_text_is_normalised_as_an_address_or_refused(text):
    for address in (text, f"http://{text}", f"HTTPS://{text}:443/"):
        try:
            normalised = normalise(address)
        except BadAddress:
            continue
        assert normalise(normalised) == normalised
        assert urlsplit(normalised).netloc.isascii()
        assert origin(normalised) == origin(address)


@pytest.fixture
def untrusted_port(tmp_path):
    """The port of a server whose certificate is not trusted."""
    key = tmp_path / "key.pem"
    certificate = tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
            *("-subj", "/CN=localhost", "-days", "2"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    # Checks every 0.05 s whether to stop, so that ``shutdown`` does not wait for half a second.
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("scheme", ["https", "HTTPS", "Https"])
def test_certificates_are_checked_whatever_the_case_of_the_scheme(untrusted_port, scheme):
    lms = Http(f"{scheme}://localhost:{untrusted_port}", timeout=60, state=LocalState())
    with pytest.raises(Unreachable, match=r"(?i)certificate"):
        lms.request("GET", "/", again=False)


@pytest.mark.parametrize("address", ["http://a:b@lms.example", "lms.example", "http://x/?y"])
def test_no_client_is_created_for_a_malformed_address(address):
    with pytest.raises(BadAddress):
        Http(address, state=LocalState())
