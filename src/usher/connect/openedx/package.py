"""Installs Usher into Tutor's own environment, where Tutor looks for plugins."""

import json
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from usher.connect.process import Runner

DISTRIBUTION = "openedx-usher"


def requirement() -> list[str]:
    """Returns the arguments of ``pip install`` for the same release or checkout of Usher."""
    distribution = metadata.distribution(DISTRIBUTION)
    text = distribution.read_text("direct_url.json")
    origin = json.loads(text) if text else {}
    path = urlsplit(origin.get("url", "")).path
    if path and Path(path).is_dir():
        editable = origin.get("dir_info", {}).get("editable", False)
        return ["--editable", path] if editable else [path]
    return [f"{DISTRIBUTION}=={distribution.version}"]


def install(python: Path, runner: Runner) -> None:
    """Installs Usher without dependencies, which Tutor has already. Raises ToolFailed."""
    runner.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *requirement()])
