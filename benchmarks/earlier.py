"""Extracts earlier code from this repository's history, for a comparison with today's code."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from benchmarks.processes import ROOT

#: The last commit whose batch API used one transaction for each request.
LONG_TRANSACTIONS = "34c8888c4e"
#: The commit of the embedded LMS with which MariaDB and ``PLATFORM_COSTS`` were first measured.
EMBEDDED = "dbb3800b6d"


def batch_api_in_long_transactions(folder: Path) -> Path | None:
    """Writes the batch API of ``LONG_TRANSACTIONS`` and the embedded LMS of ``EMBEDDED`` into
    ``folder``. Returns the folder for PYTHONPATH; None if the history lacks these commits, as in an
    archive or a shallow clone."""
    platform = "src/usher/embedded/platform.py"
    if not all(_is_in_history(commit) for commit in (LONG_TRANSACTIONS, EMBEDDED)):
        return None
    _extract(EMBEDDED, folder, "src/usher", f":!{platform}", ":!src/usher/lms")
    _extract(LONG_TRANSACTIONS, folder, "src/usher/lms", platform)
    return folder / "src"


def _is_in_history(commit: str) -> bool:
    return not _git("cat-file", "-e", f"{commit}^{{commit}}").returncode


def _extract(commit: str, folder: Path, *paths: str) -> None:
    archive = _git("archive", "--format=tar", commit, "--", *paths)
    archive.check_returncode()
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
