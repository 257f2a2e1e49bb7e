"""A real proxy in front of an LMS, which may serve https or fail for some paths."""

import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: Headers of the target's answers that the proxy sends on.
_FORWARDED_HEADERS = ("content-type", "location", "www-authenticate", "date", "allow")


@dataclass(frozen=True)
class RunningProxy:
    """certificate: the file with the certificate to trust, which exists only with https."""

    url: str
    certificate: Path


@contextmanager
def proxy(target: str, *, https: bool = False, failing_path: str = "-") -> Iterator[RunningProxy]:
    """Serves a proxy that forwards requests to ``target``. It sends the target's own Host header
    and no X-Forwarded-Proto. Paths that begin with ``failing_path`` answer 500; no path begins with
    the default."""
    host = target.split("//")[1]
    client = httpx.Client(base_url=target, follow_redirects=False, trust_env=False)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path.startswith(failing_path):
                self._answer(500, headers={}, body=b"")
                return
            headers = {name: value for name, value in self.headers.items() if name != "Host"}
            headers["Host"] = host
            answer = client.request(self.command, self.path, headers=headers, content=body)
            answer_headers = {
                name: answer.headers[name] for name in _FORWARDED_HEADERS if name in answer.headers
            }
            self._answer(answer.status_code, answer_headers, answer.content)

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(body)

        do_GET = do_POST = _forward

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    with tempfile.TemporaryDirectory() as folder:
        certificate = Path(folder) / "certificate.pem"
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if https:
            server.socket = _encrypted(server, certificate)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        scheme = "https" if https else "http"
        try:
            yield RunningProxy(f"{scheme}://127.0.0.1:{server.server_address[1]}", certificate)
        finally:
            server.shutdown()
            server.server_close()
            client.close()


def _encrypted(server: ThreadingHTTPServer, certificate: Path) -> ssl.SSLSocket:
    """The server's socket with TLS. Makes a certificate for 127.0.0.1, and writes it to the file
    ``certificate``, without its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    key_and_certificate = certificate.with_name("key_and_certificate.pem")
    key_and_certificate.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(key_and_certificate)
    return context.wrap_socket(server.socket, server_side=True)
