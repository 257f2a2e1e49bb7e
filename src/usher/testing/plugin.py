"""The pytest plugin. pytest loads it in every environment in which Usher is installed."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from usher.testing.embedded import UsherLms
    from usher.testing.fake import UsherFakeLms
    from usher.testing.refusal import RefusingOpener

OPTION = "usher_lms_traffic"
#: The name of the exception in ``usher.testing.refusal`` for a refused request.
_EXCEPTION_NAME = "LmsTrafficRefused"


def pytest_addoption(parser: pytest.Parser) -> None:
    help_text = (
        "requests to an LMS that is not one of Usher's fixtures: refused (default) or allowed"
    )
    parser.addini(OPTION, help_text, default="refused")


# Last, because a project may set Django up in this hook, and ``_uses_usher`` needs that.
@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.getini(OPTION) not in ("refused", "allowed"):
        raise pytest.UsageError(f"{OPTION} is {config.getini(OPTION)!r}: write refused or allowed")
    if _uses_usher():
        _keep_test_databases_in_files(config)


def _keep_test_databases_in_files(config: pytest.Config) -> None:
    """Puts SQLite test databases into files. All threads share a database in memory, which does not
    wait for locks, so a test could fail with "database table is locked" while ``live_server``
    answers the LMS."""
    from django.conf import settings

    options_without_name = []
    for database in settings.DATABASES.values():
        test_options = database.setdefault("TEST", {})
        is_sqlite = database.get("ENGINE") == "django.db.backends.sqlite3"
        if is_sqlite and not test_options.get("NAME"):
            options_without_name.append(test_options)
    if not options_without_name:
        return
    folder = tempfile.mkdtemp(prefix="usher-tests-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    for number, test_options in enumerate(options_without_name):
        test_options["NAME"] = str(Path(folder) / f"test{number}.sqlite3")


def _uses_usher() -> bool:
    """Whether the project under test has ``usher.application`` in INSTALLED_APPS."""
    try:
        from django.apps import apps
    except ImportError:
        return False
    return apps.ready and apps.is_installed("usher.application")


@pytest.fixture(scope="session", autouse=True)
def _usher_refuse_lms(pytestconfig: pytest.Config) -> Iterator[RefusingOpener | None]:
    """Refuses requests to an LMS during all tests. Yields the opener that refuses them; None if the
    project allows the requests or does not use Usher."""
    if pytestconfig.getini(OPTION) == "allowed" or not _uses_usher():
        yield None
        return
    from django.conf import settings

    from usher.application import conf
    from usher.client.connection import opened_by
    from usher.testing.refusal import NetworkGuard, RefusingOpener

    refusing_opener = RefusingOpener()
    lms, _ = conf.read(settings)
    guard = NetworkGuard([lms.api_base_url, lms.base_redirect_url], refusing_opener)
    sys.addaudithook(guard)
    guard.is_active = True
    try:
        with opened_by(refusing_opener.open):
            yield refusing_opener
    finally:
        guard.is_active = False


#: The key in a test's ``stash``: whether the test has failed because of a refused request.
_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    """Records that a test has failed because of a refused request."""
    error = call.excinfo.value if call.excinfo else None
    # Compared by name, because importing the class would load the client in every project.
    if call.when == "call" and type(error).__name__ == _EXCEPTION_NAME:
        item.stash[_failed] = True
    return (yield)


@pytest.fixture(autouse=True)
def _usher_fail_after_refused_request(
    request: pytest.FixtureRequest, _usher_refuse_lms: RefusingOpener | None
) -> Iterator[None]:
    """Fails a test during which a request was refused, even if other code, such as a worker's
    thread, caught the error. A test that already failed because of the request is not reported
    twice."""
    yield
    if _usher_refuse_lms is None or not _usher_refuse_lms.refused_urls:
        return
    from usher.testing.refusal import LmsTrafficRefused

    first_url = _usher_refuse_lms.refused_urls[0]
    _usher_refuse_lms.refused_urls.clear()
    has_failed = request.node.stash.get(_failed, False)
    if not has_failed:
        raise LmsTrafficRefused(first_url)


@pytest.fixture(scope="session")
def _usher_lms_process(
    live_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[UsherLms]:
    """The embedded LMS of ``usher_lms``: runs until the end of the test session."""
    from usher.testing.embedded import embedded

    folder = tmp_path_factory.mktemp("usher") / "lms"
    with embedded(folder, live_server.url) as lms:
        yield lms


@pytest.fixture
def usher_lms(
    _usher_refuse_lms: RefusingOpener | None,
    _usher_lms_process: UsherLms,
    live_server: Any,
    transactional_db: None,
    settings: Any,
) -> Iterator[UsherLms]:
    """A real embedded LMS, connected to this project, which ``live_server`` serves. It has two
    course runs and no learners."""
    from usher.client.connection import opened_by
    from usher.testing import connection
    from usher.testing.refusal import RefusingOpener, opener_that_allows

    _usher_lms_process.reset()
    connection.set_up(settings, lms_url=_usher_lms_process.url, application_url=live_server.url)
    # Requests to other LMSes stay refused.
    refusing_opener = _usher_refuse_lms or RefusingOpener()
    with opened_by(opener_that_allows(_usher_lms_process.url, refusing_opener.open)):
        yield _usher_lms_process
    connection.forget_clients()


@pytest.fixture
def usher_fake_lms(
    _usher_refuse_lms: None, transactional_db: None, settings: Any
) -> Iterator[UsherFakeLms]:
    """An LMS in memory that accepts every account, and every enrollment unless ``refuse`` was
    called for its run."""
    from usher.client.connection import opened_by
    from usher.testing import connection, fake

    lms = fake.UsherFakeLms()
    connection.set_up(settings, lms_url=fake.URL, application_url="http://testserver")
    settings.USHER_USE_BATCH_API = True
    with opened_by(lambda base_url, ssl_context: lms):
        yield lms
    connection.forget_clients()
