"""Application and LMS as real processes, and Chromium in front of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.support.browser import EXPECT_TIMEOUT, chromium
from usher.cli.demo.pair import Pair
from usher.contract.editions import EDITIONS


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the tests of one edition in one worker, because they share the application and LMS. All
    tests without an edition are a group too."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        edition = callspec.params.get("pair") if callspec else None
        item.add_marker(pytest.mark.xdist_group(edition or "no-pair"))


#: Both editions have the same code for sign-in, enrollment and sign-out, so one of them is enough
#: in daily runs.
_EDITIONS = (pytest.param("mitxonline"), pytest.param("mitxpro", marks=pytest.mark.slow))


@pytest.fixture(scope="session", params=_EDITIONS)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """A running application and LMS, connected."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    with Pair(folder, EDITIONS[request.param]) as pair:
        yield pair


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A private window, without cookies of other tests."""
    window = browser.new_context()
    window.set_default_timeout(EXPECT_TIMEOUT)
    yield window
    window.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()
