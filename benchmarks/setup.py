"""Both implementations, connected to one benchmark LMS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import application
from benchmarks.processes import free_port
from benchmarks.remote_module import RemoteModule
from benchmarks.services import PostgreSQL, Services, control
from usher.contract.oauth import lms_redirect_uri

#: Number of course runs in the benchmark LMS.
RUN_COUNT = 10_000
REFERENCE_WSGI = "benchmarks.reference.wsgi:application"
OUR_WSGI = "campus.wsgi:application"


@dataclass
class Setup:
    """The services and both implementations. our_env, reference_env: environment variables of
    their processes. our_port, reference_port: ports of their web servers, if started. ours,
    reference: call functions of the implementation, in a process that has its Django project."""

    services: Services
    postgresql: PostgreSQL
    lms_url: str
    our_env: dict[str, str]
    reference_env: dict[str, str]
    our_port: int
    reference_port: int
    ours: RemoteModule
    reference: RemoteModule

    def use_batch_api(self, is_used: bool) -> None:
        """Turns the LMS's batch API on or off, and makes Usher ask again whether it exists."""
        control(self.lms_url, "batch", on="yes" if is_used else "no")
        self.ours.call("forget_capabilities")

    def create_learners(self, username_pattern: str, count: int) -> dict[str, Any]:
        """Creates learners who have accounts in Usher's tables and in the LMS. Returns the
        arguments that name these learners in calls of ``benchmarks.ours``."""
        learners = {"username_pattern": username_pattern, "first": 0, "end": count}
        self.ours.call("create_learners", **learners)
        self.ours.call("create_accounts", **learners)
        control(self.lms_url, "accounts", **learners)
        return learners

    @property
    def redirect_uri(self) -> str:
        return lms_redirect_uri(self.lms_url, "mitxpro-oauth2")


@contextmanager
def set_up(services: Services) -> Iterator[Setup]:
    """Starts the benchmark's LMS and PostgreSQL, and prepares both implementations. Starts the web
    server only of the serial implementation, whose repair signs in through the application's
    pages."""
    postgresql = services.postgresql()
    our_port, reference_port, lms_port = free_port(), free_port(), free_port()
    lms_url = f"http://127.0.0.1:{lms_port}"
    application.serve_lms(services, lms_port, reference_port, "--runs", RUN_COUNT)
    home = services.folder / "application"
    home.mkdir()
    our_env = application.environment(home, our_port, lms_url, postgresql.url("ours"))
    application.prepare(our_env, lms_url)
    reference_env = application.environment(
        home, reference_port, lms_url, postgresql.url("reference")
    )
    reference_env["DJANGO_SETTINGS_MODULE"] = "benchmarks.reference.settings"
    application.migrate(reference_env, "benchmarks/reference/manage.py")
    application.serve(services, "reference", REFERENCE_WSGI, reference_port, reference_env)
    with (
        RemoteModule("benchmarks.ours", our_env) as ours,
        RemoteModule("benchmarks.reference.tasks", reference_env) as reference,
    ):
        result = Setup(
            services=services,
            postgresql=postgresql,
            lms_url=lms_url,
            our_env=our_env,
            reference_env=reference_env,
            our_port=our_port,
            reference_port=reference_port,
            ours=ours,
            reference=reference,
        )
        reference.call(
            "create_oauth_client",
            client_id=application.CLIENT_ID,
            client_secret=application.CLIENT_SECRET,
            redirect_uris=result.redirect_uri,
        )
        yield result
