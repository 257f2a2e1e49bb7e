"""Usher in Tutor's own environment: the plugin must be importable by the Python Tutor runs in."""

import json
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from usher.connect.process import Runner

DISTRIBUTION = "openedx-usher"


def requirement() -> list[str]:
    """What ``pip install`` needs to install the Usher that runs here: the same release, or the
    same checkout."""
    distribution = metadata.distribution(DISTRIBUTION)
    text = distribution.read_text("direct_url.json")
    origin = json.loads(text) if text else {}
    path = urlsplit(origin.get("url", "")).path
    if path and Path(path).is_dir():
        editable = origin.get("dir_info", {}).get("editable", False)
        return ["--editable", path] if editable else [path]
    return [f"{DISTRIBUTION}=={distribution.version}"]


def install(python: Path, runner: Runner) -> None:
    """Without dependencies: Tutor has what the plugin needs. Raises ToolFailed."""
    runner.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *requirement()])
