"""Runs management commands of the application, and scripts through its ``manage.py shell``."""

import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from usher.connect.application.boot import PLACEHOLDER
from usher.connect.application.checkout import WEB_SERVICE, Checkout
from usher.connect.errors import ToolFailed
from usher.connect.process import Output, Runner
from usher.contract.envfile import EnvFile
from usher.contract.environment import SECRET_KEYS
from usher.contract.secret_values import Secrets
from usher.contract.shell import with_env_file

#: A script prints its result behind this mark.
ANSWER_MARK = "usher-answer: "
#: The most characters of an application's error in a message.
_MAX_ERROR_LENGTH = 5000
#: Seconds that a management command may take; a repair command handles all learners.
COMMAND_TIMEOUT = 3600.0


class Manage:
    """Runs management commands, each in a new process with the settings of the ``.env``."""

    def __init__(self, checkout: Checkout, secrets: Secrets) -> None:
        self._checkout = checkout
        self._secrets = secrets
        #: Settings that the application needs to start and its ``.env`` doesn't have yet.
        self.placeholders: dict[str, str] = {}

    def run_script(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        """Runs a script of ``connect/application/scripts`` and returns its result.

        Script and parameters, including secrets, are passed on standard input. Raises ToolFailed.
        """
        output = self._runner().run(self._argv("shell"), stdin=as_line(name, params))
        return self._parse_answer(output)

    def run_learner_script(self, params: dict[str, Any]) -> dict[str, Any]:
        """Creates or removes the test learner with ``usher/journey/learner.py``, and returns the
        script's result. Raises ToolFailed."""
        line = as_line("learner.py", params, package="usher.journey")
        return self._parse_answer(self._runner().run(self._argv("shell"), stdin=line))

    def run_command(self, *arguments: str) -> Output:
        """Runs a management command. Raises ToolFailed."""
        return self._runner().capture(self._argv(*arguments), timeout=COMMAND_TIMEOUT)

    def start(self, *arguments: str, log: Path) -> "subprocess.Popen[bytes]":
        """Starts a management command that doesn't end by itself; see ``Runner.start``."""
        return self._runner().start(self._argv(*arguments), log)

    def hide(self, text: str) -> str:
        """Returns the text without secrets."""
        return self._secrets.hide(text)

    def as_typed(self, *arguments: str) -> str:
        """Returns a management command as the operator types it, without secrets."""
        return self._runner().as_typed([*self._checkout.manage, *arguments])

    def runnable(self, *arguments: str) -> str:
        """Returns a management command that the operator can run before connect has written the
        settings.

        The command works in any folder. It sets placeholders, which are not secret, for settings
        that the application needs to start. Without containers the command also reads the ``.env``,
        because MITx Online and MIT xPro rely on docker compose to read it.
        """
        assignments = [
            f"{key}={PLACEHOLDER if key in SECRET_KEYS else value}"
            for key, value in self._missing_settings().items()
        ]
        command = [*self._checkout.manage, *arguments]
        if self._checkout.compose:
            return self._runner().as_typed(_with_run_options(command, assignments))
        if assignments:
            command = ["env", *assignments, *command]
        line = self._runner().as_typed(command)
        return with_env_file(line, self._checkout.folder, self._checkout.settings_file)

    def run_compose(self, *arguments: str) -> str:
        """Runs ``docker compose`` in the application's folder and returns its output.

        Options of ``docker compose`` in the command that runs manage.py, such as ``--file``, are
        kept. Raises ToolFailed.
        """
        return self._runner().run([*self._compose_command(), *arguments])

    def _compose_command(self) -> list[str]:
        """Returns ``docker compose`` with its options, up to the subcommand ``run`` or ``exec``."""
        manage = self._checkout.manage
        subcommands = [manage.index(word) for word in ("run", "exec") if word in manage]
        return list(manage[: min(subcommands)]) if subcommands else ["docker", "compose"]

    @property
    def service(self) -> str:
        """The compose service that runs the application's manage.py."""
        manage = self._checkout.manage
        if not self._checkout.compose:
            return WEB_SERVICE
        program = next(
            (index for index, word in enumerate(manage) if word.endswith("manage.py")), 0
        )
        # The command is ``docker compose run … SERVICE [python] …manage.py``.
        words = [word for word in manage[:program] if not word.startswith("python")]
        return words[-1] if words else WEB_SERVICE

    def _parse_answer(self, output: str) -> dict[str, Any]:
        """Returns the result that a script has printed after ``ANSWER_MARK``. Raises ToolFailed."""
        for line in reversed(output.splitlines()):
            _, mark, answer = line.partition(ANSWER_MARK)
            if not mark:
                continue
            try:
                data = json.loads(answer)
            except (ValueError, RecursionError):
                data = None
            if not isinstance(data, dict):
                raise ToolFailed(f"{self._checkout.title} printed a result that is not JSON")
            if "error" in data:
                error_text = self._secrets.hide(str(data["error"]))[:_MAX_ERROR_LENGTH]
                raise ToolFailed(f"{self._checkout.title}: {error_text}")
            return data
        raise ToolFailed(
            f"{self.as_typed('shell')} gave no result; is this the manage.py of a Django "
            "application?"
        )

    def _argv(self, *arguments: str) -> list[str]:
        """Returns the program and arguments that run a management command.

        The arguments name the missing settings without their values, because every user of this
        machine can read arguments: ``docker compose run -e NAME`` takes the value from this
        process's environment.
        """
        names = self._missing_settings() if self._checkout.compose else ()
        return [*_with_run_options(self._checkout.manage, names), *arguments]

    def _missing_settings(self) -> dict[str, str]:
        """Returns the placeholders for settings that the ``.env`` doesn't have."""
        present = self._env_file_values()
        return {key: value for key, value in self.placeholders.items() if not present.get(key)}

    def _env_file_values(self) -> dict[str, str]:
        path = self._checkout.settings_file
        return EnvFile.read(path).values() if path else {}

    def _runner(self) -> Runner:
        """Returns a Runner with the environment for manage.py.

        docker compose reads the ``.env`` itself. Without docker compose, the values of the ``.env``
        are passed as environment variables; an empty value does not replace a variable of this
        process.
        """
        checkout = self._checkout
        env_file = EnvFile.read(checkout.settings_file) if checkout.settings_file else EnvFile()
        # The application's errors may quote its own settings.
        self._secrets.add_settings({**os.environ, **env_file.values()})
        values = {} if checkout.compose else env_file.values_for_process(os.environ)
        cwd = checkout.folder or Path.cwd()
        return Runner(self._secrets, cwd=cwd, env=values | self._missing_settings())


def _with_run_options(command: Sequence[str], variables: Iterable[str]) -> list[str]:
    """Returns a ``docker compose`` command whose subcommand ``run`` has the option ``-e`` for each
    variable. Another command is returned unchanged. variables: NAME=VALUE, or NAME alone."""
    if "run" not in command:
        return list(command)
    position = command.index("run") + 1
    options = [word for variable in variables for word in ("-e", variable)]
    return [*command[:position], *options, *command[position:]]


def as_line(
    name: str, params: dict[str, Any], package: str = "usher.connect.application.scripts"
) -> str:
    """Returns a script and its parameters as one line for ``manage.py shell``.

    ``shell`` reads its whole input, or line by line if the input arrives late. One line works in
    both cases.
    """
    source = resources.files(package).joinpath(name).read_text()
    parameters = f"__import__('json').loads({json.dumps(params)!r})"
    scope = f"{{'__name__': {name!r}, 'PARAMS': {parameters}}}"
    return f"exec(compile({source!r}, {name!r}, 'exec'), {scope})\n"
