"""Installs Usher into Tutor's own environment, where Tutor looks for plugins."""

import json
import tempfile
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from usher.connect.process import Runner
from usher.contract import wheel


def install(python: Path, runner: Runner) -> None:
    """Installs the code that this process runs into the environment of ``python``: a checkout as
    editable if it is editable here, otherwise a wheel that is built for it. Dependencies are left
    out, which Tutor has already. Raises ToolFailed."""
    pip_install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--no-deps"]
    if checkout := _editable_checkout():
        runner.run([*pip_install, "--editable", checkout])
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / wheel.filename()
        file.write_bytes(wheel.build())
        runner.run([*pip_install, file])


def _editable_checkout() -> Path | None:
    """The checkout from which Usher is installed as editable; None if it is installed otherwise."""
    text = metadata.distribution(wheel.DISTRIBUTION).read_text("direct_url.json")  # PEP 610
    origin = json.loads(text) if text else {}
    if not origin.get("dir_info", {}).get("editable", False):
        return None
    return Path(unquote(urlsplit(origin["url"]).path))
