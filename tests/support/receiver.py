"""A small HTTP server that records requests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Seconds after which the server answers even if the test has not ended the delay.
MAX_DELAY = 90.0


@dataclass
class ReceivedRequest:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A running server. url: its address. status: the status of its answers. delay: an event that
    the server waits for before it answers, or None. requests: all requests so far. arrived:
    notified of each request."""

    url: str = ""
    status: int = 200
    delay: threading.Event | None = None
    requests: list[ReceivedRequest] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int, seconds: float = 90) -> list[ReceivedRequest]:
        """Waits until ``count`` requests have arrived, and returns all. Raises TimeoutError after
        ``seconds``."""
        with self.arrived:
            if not self.arrived.wait_for(lambda: len(self.requests) >= count, seconds):
                raise TimeoutError(f"{len(self.requests)} requests arrived, not {count}")
            return list(self.requests)


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A running server on a free port. At the end of the block its delay ends."""
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with state.arrived:
                state.requests.append(
                    ReceivedRequest(self.command, self.path, dict(self.headers), body)
                )
                state.arrived.notify_all()
            if state.delay is not None:
                state.delay.wait(MAX_DELAY)
            self.send_response(state.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        if state.delay is not None:
            state.delay.set()
        server.shutdown()
        server.server_close()
        thread.join()
