"""Every command and snippet in README, docs and pages for staff is valid for its program.

The tests only parse the commands. ``tests/cli/test_docs_run.py`` names the test that runs each
command."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path

import click
import pytest
import yaml
from django.core.management import get_commands, load_command_class

from tests.support.pages import ROOT, read_blocks, read_commands
from usher.cli.main import main

#: Other programs, whose arguments are not checked.
UNCHECKED_PROGRAMS = {
    *("git", "docker", "kubectl", "helm", "tutor", "celery", "granian", "django-admin"),
    *("promtool", "prometheus", "openssl", "curl", "sh", "cp", "cd", "chmod", "echo", "printf"),
    *(".", "$EDITOR"),
}
#: Languages of code blocks without commands: output, diagrams, text.
LANGUAGES_WITHOUT_COMMANDS = {"text", "mermaid", "promql", "nginx", "dotenv"}


def blocks_in(language: str) -> Iterator[tuple[str, str]]:
    """(page, text) of each code block in this language."""
    for page, language_of_block, text in read_blocks():
        if language_of_block == language:
            yield page, text


def test_every_code_block_has_a_known_language() -> None:
    known = {"console", "sh", "python", "ini", "json", "yaml"} | LANGUAGES_WITHOUT_COMMANDS
    assert [(page, language) for page, language, _ in read_blocks() if language not in known] == []


@pytest.mark.parametrize(("page", "command"), read_commands())
def test_every_command_has_valid_arguments(page: str, command: str) -> None:
    words = shlex.split(command, comments=True)
    while words and re.match(r"[A-Z_]+=", words[0]):  # variables before the program
        del words[0]
    if words[:3] == ["tutor", "local", "run"]:
        words = words[4:]  # the command after ``tutor local run SERVICE``
    program = Path(words[0]).name or words[0]  # the name of ``.`` is empty
    task_of_plugin = re.search(r"do (usher-\S+)", command)
    if program == "usher":
        check_usher_command(words[1:])
    elif program in ("python", "python3"):
        check_python_command(words[1:])
    elif program == "manage.py":
        check_python_command(words)
    elif program == "make":
        check_make_targets(words[1:])
    elif program == "pip":
        check_pip_install(words, command)
    elif program == "tutor" and task_of_plugin:
        check_task_of_plugin(task_of_plugin[1])
    else:
        assert program in UNCHECKED_PROGRAMS, f"{page}: {command}"


def check_make_targets(words: list[str]) -> None:
    """Fails if a word is neither a target of the Makefile nor a variable."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for word in words:
        assert "=" in word or word in targets, f"make {word}"


def check_pip_install(words: list[str], command: str) -> None:
    """Fails unless it is ``pip install``, with extras of Usher that exist."""
    assert words[1] == "install"
    known_extras = metadata.metadata("openedx-usher").get_all("Provides-Extra") or []
    for extras in re.findall(r"usher[^\[]*\[([^\]]+)\]", command):
        assert set(extras.split(",")) <= set(known_extras)


def check_task_of_plugin(task: str) -> None:
    """Fails if the Tutor plugin has no such task for ``tutor ... do``."""
    sources = [path.read_text() for path in (ROOT / "src/usher/tutor").rglob("*.py")]
    assert any(task in source for source in sources), task


def check_usher_command(words: list[str]) -> None:
    """Fails if ``usher`` has no such command or the command no such arguments."""
    context = click.Context(main, info_name="usher")
    command = main.get_command(context, words[0])
    assert command is not None, words
    inner = click.Context(command, info_name=words[0], parent=context)
    arguments = words[1:]
    if isinstance(command, click.Group):
        subcommand = command.get_command(inner, arguments[0])
        assert subcommand is not None, words
        command, arguments = subcommand, arguments[1:]
    command.make_parser(inner).parse_args(args=list(arguments))


def check_python_command(words: list[str]) -> None:
    """Like ``check_usher_command``, for ``manage.py``, ``python -m`` and scripts."""
    if Path(words[0]).name == "manage.py":
        if words[1] == "lms":
            # ``manage.py lms`` runs a command of the plugin in the LMS.
            lms = ROOT / "src/usher/lms/management/commands" / f"{words[2]}.py"
            assert lms.is_file(), words
            return
        owner = get_commands()[words[1]]  # an app's name, or the command itself
        command = load_command_class(owner, words[1]) if isinstance(owner, str) else owner
        command.create_parser("manage.py", words[1]).parse_args(words[2:])
    elif words[0] == "-m":
        if words[1] != "pytest":
            import_module(words[1])
    else:
        assert (ROOT / words[0]).is_file(), words


def commands_in_templates() -> Iterator[tuple[str, str]]:
    """(template, command) of each command of manage.py that a page for staff shows."""
    for folder in ("src/usher", "campus"):
        for template in sorted((ROOT / folder).rglob("templates/**/*.html")):
            for command in re.findall(r"<code>(manage\.py [\w -]+)</code>", template.read_text()):
                yield template.name, command


@pytest.mark.parametrize(("template", "command"), list(commands_in_templates()))
def test_every_command_on_a_page_for_staff_has_valid_arguments(template: str, command: str) -> None:
    check_python_command(shlex.split(command))


@pytest.mark.parametrize(("page", "code"), list(blocks_in("python")), ids=lambda text: text[:30])
def test_python_blocks_compile_and_import_existing_names(page: str, code: str) -> None:
    if code.lstrip().startswith(">>>"):
        return  # tests/client runs interactive sessions
    for node in ast.walk(ast.parse(code, page)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("usher"):
            module = import_module(str(node.module))
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{page}: {node.module} has no {missing}"


def test_json_and_yaml_blocks_can_be_parsed() -> None:
    for _, text in blocks_in("json"):
        json.loads(text)
    for _, text in blocks_in("yaml"):
        list(yaml.safe_load_all(text))
