"""The Tutor plugin's smoke tests, run with pytest and the LMS's address, as Tutor does."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tests.lms.conftest import Lms
from usher.tutor import smoke

FILE = Path(smoke.__file__).parent / "test_usher.py"


def run_smoke_tests(url: str, folder: Path) -> tuple[int, str]:
    """Runs the smoke tests of the LMS at this address. Returns pytest's exit code and output."""
    address = urlsplit(url)
    environment = {
        "LMS_HOST": address.hostname or "",
        "LMS_PORT": str(address.port),
        "ENABLE_HTTPS": "false",
    }
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "--tb=short", "-v", "-p", "no:django", FILE],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    return result.returncode, result.stdout


def test_a_connected_lms_passes_the_smoke_tests(lms: Lms, tmp_path: Path) -> None:
    code, output = run_smoke_tests(lms.url, tmp_path)
    assert (code, "2 passed" in output) == (0, True), output


def test_an_lms_that_is_not_connected_fails_the_smoke_tests(lms: Lms, tmp_path: Path) -> None:
    # The tests' application answers unknown paths with 404, as an LMS without the plugin does.
    code, output = run_smoke_tests(lms.application.url, tmp_path)
    assert (code, "answers 404 without a token" in output) == (1, True), output
