"""The error in a program's output, with the file and line in the project that caused it."""

import subprocess
import sys
from pathlib import Path

import pytest

from usher.contract.tracebacks import is_traceback, summary_of_output


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("FOO = bar", "shop.py, line 2: NameError: name 'bar' is not defined"),
        (
            "import os; os.environ['SHOP_KEY']",
            "shop.py, line 2: KeyError: 'SHOP_KEY' (the environment variable SHOP_KEY is not set)",
        ),
        (
            "raise OSError('refused\\n\\tIs the server running?')",
            "shop.py, line 2: OSError: refused Is the server running?",
        ),
        # Django's runserver, if WSGI_APPLICATION can't be imported.
        (
            "try:\n    import nothing.here\nexcept ImportError as error:\n    raise OSError("
            "'WSGI application shop could not be loaded; Error importing module.') from error",
            "shop.py, line 3: ModuleNotFoundError: No module named 'nothing'",
        ),
        # Not the environment, so without the hint of the case above.
        ("{}['SHOP_KEY']", "shop.py, line 2: KeyError: 'SHOP_KEY'"),
        ("FOO = (", "shop.py, line 2: SyntaxError: '(' was never closed"),
        (
            "import json; json.loads('')",
            "shop.py, line 2: json.decoder.JSONDecodeError: Expecting value: line 1 column 1 "
            "(char 0)",
        ),
    ],
)
def test_the_file_and_line_of_an_error_are_those_in_the_project(
    tmp_path: Path, code: str, expected: str
) -> None:
    (tmp_path / "shop.py").write_text(f"\n{code}\n")
    stderr = error_of_import("shop", tmp_path)
    assert summary_of_output(stderr, tmp_path) == expected
    # A syntax error has its place even if that is outside of the folder.
    if "SyntaxError" not in expected:
        _, error = expected.split(": ", 1)
        assert summary_of_output(stderr, tmp_path / "elsewhere") == error, "without a place"


def test_a_syntax_error_in_a_library_is_reported_with_the_library_s_file(tmp_path: Path) -> None:
    project, library = tmp_path / "project", tmp_path / "library.py"
    project.mkdir()
    library.write_text("FOO = (\n")
    (project / "shop.py").write_text("import sys; sys.path.append('..')\nimport library\n")
    summary = summary_of_output(error_of_import("shop", project), project)
    assert summary == f"{library}, line 1: SyntaxError: '(' was never closed"


def error_of_import(module: str, folder: Path) -> str:
    """What Python prints when it imports this module of the folder."""
    command = [sys.executable, "-c", f"import {module}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True).stderr


def test_output_after_an_error_is_not_part_of_the_error(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("FOO = bar\n")
    output = error_of_import("shop", tmp_path) + "Watching for changes\n"
    assert summary_of_output(output, tmp_path).endswith("NameError: name 'bar' is not defined")


def test_output_without_a_traceback_is_summarised_by_its_last_line() -> None:
    assert summary_of_output("one\ntwo\n", Path()) == "two"
    assert summary_of_output("", Path()) == ""


def test_a_traceback_that_is_not_yet_printed_to_its_end_is_no_traceback() -> None:
    lines = [
        "Traceback (most recent call last):",
        '  File "shop.py", line 1, in <module>',
        "    no()",
    ]
    output = "\n".join(lines)
    assert not is_traceback(lines[0])
    assert not is_traceback(output)
    assert is_traceback(f"{output}\nNameError: name 'no' is not defined")
