"""Draws docs/images/console-*.png from the pages of a running `usher demo --trouble`.

python scripts/console_pictures.py [FOLDER]     # the demo's folder; .demo/mitxonline by default
"""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, StorageState

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.browser import chromium  # noqa: E402

IMAGES = ROOT / "docs" / "images"
LEARNER = "emil@learners.example"
#: Widths in pixels, of a page, of a page on a phone, and of the gap between two phones.
WIDE, PHONE, GAP = 960, 320, 24
PHONE_HEIGHT = 1170


def main() -> int:
    home = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".demo" / "mitxonline")
    port = json.loads((home / "pair.json").read_text())["application_port"]
    password = json.loads((home / "credentials.json").read_text())["superuser_password"]
    console = f"http://localhost:{port}/staff"
    with chromium() as browser:
        state = _sign_in(browser, console, password)
        _draw_pages(browser, state, console)
        _draw_phones(browser, state, console)
    _reduce_colours()
    return 0


def _sign_in(browser: Browser, console: str, password: str) -> StorageState:
    """Signs the demo's superuser in. Returns the browser's cookies."""
    page = browser.new_page()
    page.goto(f"{console}/")
    page.fill("input[name=login]", "admin")
    page.fill("input[name=password]", password)
    with page.expect_navigation(url=f"{console}/"):
        page.keyboard.press("Enter")
    return page.context.storage_state()


def _draw_pages(browser: Browser, state: StorageState, console: str) -> None:
    pages: tuple[tuple[str, str, Literal["light", "dark"], int], ...] = (
        ("overview", "/?refresh=off", "light", 1050),
        ("refusals", "/refusals/", "dark", 720),
        ("learner", f"/learners/?q={LEARNER}", "light", 1170),
        ("doctor", "/doctor/", "light", 1130),
    )
    for name, path, scheme, height in pages:
        window = browser.new_context(
            viewport={"width": WIDE, "height": height}, color_scheme=scheme, storage_state=state
        )
        page = window.new_page()
        page.goto(console + path)
        if name == "doctor":  # twice, because the page compares the findings with those before
            for _ in range(2):
                with page.expect_navigation():
                    page.get_by_role("button", name="Run the checks now").click()
        page.screenshot(path=IMAGES / f"console-{name}.png")
        window.close()


def _draw_phones(browser: Browser, state: StorageState, console: str) -> None:
    """Draws two pages next to each other in one picture."""
    window = browser.new_context(
        viewport={"width": PHONE, "height": PHONE_HEIGHT}, storage_state=state
    )
    page = window.new_page()
    screenshots = [
        _take_screenshot(page, console + path)
        for path in ("/?refresh=off", f"/learners/?q={LEARNER}")
    ]
    page.set_viewport_size({"width": 2 * PHONE + GAP, "height": PHONE_HEIGHT})
    page.goto("about:blank")
    images = "".join(
        f'<img src="data:image/png;base64,{screenshot}">' for screenshot in screenshots
    )
    page.set_content(f'<body style="margin:0;display:flex;gap:{GAP}px">{images}</body>')
    page.screenshot(path=IMAGES / "console-phone.png")
    window.close()


# The picture as PNG in base64.
def _take_screenshot(page: Page, address: str) -> str:
    page.goto(address)
    return base64.b64encode(page.screenshot()).decode()


def _reduce_colours() -> None:
    """Makes the files a third as large, with 64 colours, if pngquant (Debian's package) is
    installed."""
    files = [str(file) for file in sorted(IMAGES.glob("console-*.png"))]
    try:
        subprocess.run(["pngquant", "--force", "--ext", ".png", "64", *files], check=True)
    except FileNotFoundError:
        print("pngquant is not installed: the pictures are larger than necessary.")


if __name__ == "__main__":
    raise SystemExit(main())
