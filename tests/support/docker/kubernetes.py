"""The part of a Kubernetes API server that Tutor uses: jobs and their results."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.support.docker.engine import ContainerEngine
from tests.support.docker.kubectl_command import exit_codes


@contextmanager
def api_server(engine: ContainerEngine) -> Iterator[dict[str, str]]:
    """Runs a server, and yields the environment variable KUBECONFIG with which Tutor uses it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            if not address.path.startswith("/apis/batch/v1/namespaces/"):
                self.send_error(404)
                return
            field = parse_qs(address.query).get("fieldSelector", [""])[0]
            body = json.dumps(job_list(engine, field.removeprefix("metadata.name="))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = engine.home / "kubeconfig.yml"
    kubeconfig.write_text(yaml.safe_dump(_kubeconfig(f"http://127.0.0.1:{server.server_port}")))
    try:
        yield {"KUBECONFIG": str(kubeconfig)}
    finally:
        server.shutdown()
        server.server_close()


def job_list(engine: ContainerEngine, name: str) -> dict[str, object]:
    """The job ``name``, or all jobs if ``name`` is empty, in the format of the API. All jobs have
    ended."""
    items = [
        {
            "metadata": {"name": job},
            "status": {"succeeded": 1} if code == 0 else {"failed": 1},
        }
        for job, code in exit_codes(engine).items()
        if name in ("", job)
    ]
    return {"apiVersion": "batch/v1", "kind": "JobList", "metadata": {}, "items": items}


def _kubeconfig(server: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "standin", "cluster": {"server": server}}],
        "users": [{"name": "standin", "user": {}}],
        "contexts": [{"name": "standin", "context": {"cluster": "standin", "user": "standin"}}],
        "current-context": "standin",
    }
