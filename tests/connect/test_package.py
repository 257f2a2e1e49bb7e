"""The installation of Usher into Tutor's environment, here an empty one."""

import json
import subprocess
import venv
from importlib import metadata
from pathlib import Path

import pytest

import usher
from usher.connect.openedx import package
from usher.connect.process import Runner
from usher.contract.secret_values import Secrets


def set_origin(monkeypatch: pytest.MonkeyPatch, origin: dict[str, object] | None) -> None:
    """Changes whence Usher seems to be installed. origin: the object in direct_url.json (PEP 610);
    None for a release from an index, which has no such file."""
    read_text = metadata.PathDistribution.read_text

    def read(distribution: metadata.PathDistribution, name: str) -> str | None:
        if name == "direct_url.json":
            return json.dumps(origin) if origin else None
        return read_text(distribution, name)

    monkeypatch.setattr(metadata.PathDistribution, "read_text", read)


#: The file of a wheel may have been deleted since its installation.
WHEEL = {"url": "file:///nowhere/openedx_usher-0.1.0-py3-none-any.whl", "archive_info": {}}


@pytest.mark.parametrize(
    ("origin", "expected_checkout"),
    [
        (None, None),
        (WHEEL, None),
        ({"url": "file:///srv/checkout", "dir_info": {}}, None),
        (
            {"url": "file:///srv/a%20checkout", "dir_info": {"editable": True}},
            Path("/srv/a checkout"),
        ),
    ],
    ids=["a release", "a wheel", "a checkout", "an editable checkout"],
)
def test_only_an_editable_checkout_is_installed_from_its_folder(
    monkeypatch: pytest.MonkeyPatch,
    origin: dict[str, object] | None,
    expected_checkout: Path | None,
) -> None:
    set_origin(monkeypatch, origin)
    assert package._editable_checkout() == expected_checkout


@pytest.mark.slow
def test_tutors_environment_gets_the_running_code_if_usher_was_installed_from_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "environment", with_pip=True)
    python = tmp_path / "environment/bin/python"
    set_origin(monkeypatch, WHEEL)
    package.install(python, Runner(Secrets(), env={"PIP_NO_INDEX": "1"}))
    script = "import usher; print(usher.__path__[0])"
    result = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    installed_package = Path(result.stdout.strip())
    assert installed_package.is_relative_to(tmp_path)
    plugin = Path("tutor", "plugin.py")
    running_package = Path(usher.__path__[0])
    assert (installed_package / plugin).read_bytes() == (running_package / plugin).read_bytes()
