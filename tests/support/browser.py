"""A headless Chromium for tests."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, expect, sync_playwright

PROGRAM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC_PROGRAM = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
#: Features of Chromium to switch off: some start further processes, others try https for http
#: pages. This list replaces the one that Playwright passes.
DISABLED_FEATURES = (
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    "SpareRendererForSitePerProcess",
    "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable",
    "MediaRouter",
    "OptimizationHints",
    "PaintHolding",
)
ARGUMENTS = [
    f"--disable-features={','.join(DISABLED_FEATURES)}",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Milliseconds to wait for an expected element: many, since other tests may keep the machine busy.
EXPECT_TIMEOUT = 60_000


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """A running browser: the Chromium of the system, otherwise the one of Playwright. arguments:
    further command-line arguments of Chromium."""
    expect.set_options(timeout=EXPECT_TIMEOUT)
    path = next(filter(None, map(shutil.which, PROGRAM_NAMES)), None) or shutil.which(MAC_PROGRAM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=[*ARGUMENTS, *arguments], headless=True
        )
        try:
            yield browser
        finally:
            browser.close()
