"""The ``usher`` command: its help, and its message if a package can't be imported."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from usher.cli.main import COMMANDS, main


def test_help_lists_every_command_without_importing_a_package() -> None:
    program = (
        "import sys; from usher.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not [m for m in sys.modules if m.startswith('usher.') and m.split('.')[1] != 'cli']"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    for name in COMMANDS:
        assert name in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_and_has_help(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_a_missing_package_is_named_with_its_extra() -> None:
    program = (
        "import sys; sys.modules['httpx'] = None\n"
        "from usher.cli.main import main; main(['dev', '--help'])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 1
    assert "pip install 'openedx-usher[embedded]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_command_without_its_extra_names_it() -> None:
    program = "import sys; sys.modules['click'] = None\nfrom usher.cli.main import main"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 1
    assert "pip install 'openedx-usher[shell]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(main, ["conect"])
    assert result.exit_code == 2
    assert "No such command 'conect'" in result.output
