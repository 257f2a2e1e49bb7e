"""The application, served by a thread and connected to a real embedded LMS in another process."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started

from tests.support.faults import FaultyProxy, faulty_proxy
from tests.support.lms_process import (
    LMS_CLIENT_ID,
    LMS_CLIENT_SECRET,
    LmsProcess,
    lms_process,
)

#: Seconds after which a test gives up waiting for another thread. A busy machine is slow.
LONGEST_WAIT = 90

#: No server listens at this address, so requests fail immediately.
UNREACHABLE_URL = "http://127.0.0.1:9"


@pytest.fixture(scope="session")
def lms_server() -> Iterator[LmsProcess]:
    """One LMS for the tests of this process; each test uses its own usernames and course keys."""
    with lms_process() as lms:
        yield lms


def _load_urlconf() -> None:
    """Loads the URLconf now, because loading it during the LMS's first request could time out."""
    from django.urls import get_resolver

    assert get_resolver().url_patterns  # the first access imports the URLconf


@pytest.fixture(scope="session")
def connected_lms(lms_server: LmsProcess, live_server: Any) -> LmsProcess:
    """The LMS without ``usher.lms``, connected to the application that the tests serve."""
    _load_urlconf()
    lms_server.connect_without_plugin(live_server.url)
    return lms_server


@pytest.fixture(scope="session")
def plugin_lms(live_server: Any) -> Iterator[LmsProcess]:
    """An LMS with ``usher.lms``, connected to the application that the tests serve."""
    _load_urlconf()
    with lms_process(with_plugin=True) as lms:
        lms.connect_with_plugin(live_server.url)
        yield lms


@pytest.fixture(scope="module")
def empty_lms(live_server: Any) -> Iterator[LmsProcess]:
    """An Open edX that has the application's service worker, but no learners and no courses."""
    with lms_process(with_plugin=True, with_courses=False) as lms:
        lms.connect_with_plugin(live_server.url)
        yield lms


@dataclass
class System:
    """The connected application and LMS, with helpers for tests."""

    lms: LmsProcess
    application_url: str

    def learner(self, prefix: str = "learner", **fields: Any) -> Any:
        """See ``make_learner``."""
        return make_learner(prefix, **fields)

    def account(self, username: str) -> dict[str, Any] | None:
        """The account with this username in the LMS's database, or None."""
        return self._run_script(
            "from django.contrib.auth import get_user_model as g; import json; "
            f"u = g().objects.filter(username={username!r}).first(); "
            "print(json.dumps(u and {'id': u.pk, 'email': u.email, 'is_active': u.is_active, "
            "'name': u.profile.name, 'has_password': u.has_usable_password(), "
            "'links': list(u.social_auth.values_list('provider', 'uid'))}))"
        )

    def enrollments(self, username: str) -> dict[str, tuple[str, bool]]:
        """The enrollments in the LMS's database: course key → (mode, whether the enrollment is
        active)."""
        rows = self._run_script(
            "from usher.embedded.student.models import CourseEnrollment as E; import json; "
            f"rows = E.objects.filter(user__username={username!r}); "
            "print(json.dumps([[str(r.course_id), r.mode, r.is_active] for r in rows]))"
        )
        return {key: (mode, active) for key, mode, active in rows}

    def _run_script(self, script: str) -> Any:
        """Runs a script in the LMS. Returns what its last line of output means as JSON."""
        import json

        return json.loads(self.lms.shell(script).splitlines()[-1])


def make_learner(prefix: str = "learner", **fields: Any) -> Any:
    """A new user with a random username, which begins with ``prefix``. fields: the user's fields,
    such as another username."""
    from django.contrib.auth import get_user_model

    name = fields.pop("username", None) or f"{prefix}_{secrets.token_hex(4)}"
    return get_user_model().objects.create_user(
        username=name,
        email=fields.pop("email", None) or f"{secrets.token_hex(6)}@learners.example",
        name=fields.pop("name", f"Name of {name}"),
        **fields,
    )


@pytest.fixture
def system(
    connected_lms: LmsProcess, live_server: Any, transactional_db: None, settings: Any
) -> Iterator[System]:
    """Application and LMS, connected with the public API only. The application's database contains
    only the LMS's OAuth client."""
    configure(settings, connected_lms, live_server.url)
    yield System(connected_lms, live_server.url)
    wait_for_requests()


def configure(settings: Any, lms: LmsProcess, application_url: str, **overrides: Any) -> None:
    """Connects the application to this LMS: sets the application's settings, and adds the LMS's
    OAuth client to the application's database. The application uses the public API, unless
    ``overrides`` sets ``USHER_USE_BATCH_API``. overrides: settings that replace the defaults."""
    from usher.application.management.instance import make_client

    defaults: dict[str, Any] = {"USHER_CONCURRENCY": 8, "USHER_USE_BATCH_API": False}
    for name, value in (lms.application_settings(application_url) | defaults | overrides).items():
        setattr(settings, name, value)
    forget_clients()
    make_client([lms.url], LMS_CLIENT_ID, LMS_CLIENT_SECRET)


def forget_clients() -> None:
    """Drops the LMS client. The next test gets a new client, without the pauses and the open
    circuits of the client before."""
    from usher.application import lms_client

    lms_client._client.cache_clear()


class _RequestsInProgress:
    """Counts the requests that the tests' server is processing."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        request_started.connect(self._started)
        request_finished.connect(self._finished)

    def _started(self, sender: Any, **_: Any) -> None:
        self._change_count(sender, 1)

    def _finished(self, sender: Any, **_: Any) -> None:
        self._change_count(sender, -1)

    def _change_count(self, sender: Any, number: int) -> None:
        if not isinstance(sender, type) or not issubclass(sender, WSGIHandler):
            return  # a request of Django's test client
        with self._changed:
            self._count += number
            self._changed.notify_all()

    def wait(self) -> None:
        """Waits until no request is left, 30 seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._count, timeout=30)


_in_progress = _RequestsInProgress()


def wait_for_requests() -> None:
    """Waits until the LMS's requests to the application, such as webhooks, have ended, because
    their locks would block the emptying of the tables. Then drops the LMS client. Call this at the
    end of a test."""
    _in_progress.wait()
    forget_clients()


@pytest.fixture
def system_with_batch_api(
    plugin_lms: LmsProcess, live_server: Any, transactional_db: None, settings: Any
) -> Iterator[System]:
    """Application and LMS, connected with the batch API."""
    configure(settings, plugin_lms, live_server.url, USHER_USE_BATCH_API=True)
    yield System(plugin_lms, live_server.url)
    wait_for_requests()


@pytest.fixture(params=["system", "system_with_batch_api"])
def system_with_each_api(request: pytest.FixtureRequest, transactional_db: None) -> System:
    """Runs the test twice: with ``system``, and with ``system_with_batch_api``.

    This fixture requests ``transactional_db`` itself, because pytest-django does not see that a
    dynamically requested fixture needs ``transactional_db``."""
    system: System = request.getfixturevalue(request.param)
    return system


@pytest.fixture
def faulty(system: System, settings: Any) -> Iterator[FaultyProxy]:
    """A proxy that can cause faults, between the application and the LMS of ``system``."""
    with _proxy_in_front_of_lms(system, settings) as proxy:
        yield proxy


@pytest.fixture
def faulty_with_each_api(system_with_each_api: System, settings: Any) -> Iterator[FaultyProxy]:
    """As ``faulty``, for ``system_with_each_api``."""
    with _proxy_in_front_of_lms(system_with_each_api, settings) as proxy:
        yield proxy


@contextmanager
def _proxy_in_front_of_lms(system: System, settings: Any) -> Iterator[FaultyProxy]:
    """Within this context, the application's requests to the LMS pass the proxy."""
    with faulty_proxy(system.lms.url) as proxy:
        settings.OPENEDX_API_BASE_URL = proxy.url
        settings.OPENEDX_BASE_REDIRECT_URL = system.lms.url  # browsers reach the LMS without faults
        forget_clients()
        yield proxy


@pytest.fixture
def eventually() -> Callable[..., None]:
    """A function that waits until a condition is true, 90 seconds at most by default."""
    import time

    def wait(condition: Callable[[], bool], seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not become true in time"
            time.sleep(0.05)

    return wait
