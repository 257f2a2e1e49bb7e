"""Runs management commands of the application, and scripts through its ``manage.py shell``."""

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

from usher.connect.application.boot import PLACEHOLDER
from usher.connect.application.checkout import WEB_SERVICE, Checkout
from usher.connect.errors import ToolFailed
from usher.connect.process import Output, Runner, Secrets
from usher.contract.envfile import EnvFile
from usher.contract.environment import SECRET_KEYS

ANSWER_MARK = "usher-answer: "
_LONGEST_ERROR = 5000
#: Seconds. A repair command handles all learners.
COMMAND_TIMEOUT = 3600.0


class Manage:
    """Runs management commands, each in a new process with the settings of the ``.env``."""

    def __init__(self, checkout: Checkout, secrets: Secrets) -> None:
        self._checkout = checkout
        self._secrets = secrets
        #: Settings that the application needs to start and its ``.env`` doesn't have yet.
        self.placeholders: dict[str, str] = {}

    def script(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        """Runs a script of ``connect/application/scripts`` and returns its result.

        Script and parameters, including secrets, are passed on standard input. Raises ToolFailed.
        """
        output = self._runner().run(self._argv("shell"), stdin=as_line(name, params))
        return self._answer(output)

    def test_learner(self, params: dict[str, Any]) -> dict[str, Any]:
        """Creates or removes the test learner of ``usher.journey``. Raises ToolFailed."""
        line = as_line("learner.py", params, package="usher.journey")
        return self._answer(self._runner().run(self._argv("shell"), stdin=line))

    def command(self, *arguments: str) -> Output:
        """Runs a management command. Raises ToolFailed."""
        return self._runner().output(self._argv(*arguments), timeout=COMMAND_TIMEOUT)

    def shown(self, *arguments: str) -> str:
        return self._runner().shown([*self._checkout.manage, *arguments])

    def runnable(self, *arguments: str) -> str:
        """Returns a management command as one types it before connect has written the settings.

        It has placeholders for those that the application needs to start; none of them is secret.
        """
        given = [
            f"{key}={PLACEHOLDER if key in SECRET_KEYS else value}"
            for key, value in self._missing().items()
        ]
        command = [*self._checkout.manage, *arguments]
        if self._checkout.compose and "run" in command:
            place = command.index("run") + 1
            command[place:place] = [word for each in given for word in ("-e", each)]
        elif given:
            command[:0] = ["env", *given]
        return self._runner().shown(command)

    def compose(self, *arguments: str) -> str:
        """Runs ``docker compose`` in the application's folder and returns its output.

        It gets the same options as in the command that runs manage.py, such as ``--file``.
        Raises ToolFailed.
        """
        return self._runner().run([*self._compose_command(), *arguments])

    def _compose_command(self) -> list[str]:
        manage = self._checkout.manage
        ends = [manage.index(word) for word in ("run", "exec") if word in manage]
        return list(manage[: min(ends)]) if ends else ["docker", "compose"]

    @property
    def service(self) -> str:
        """The compose service that runs its manage.py."""
        manage = self._checkout.manage
        if not self._checkout.compose:
            return WEB_SERVICE
        program = next((i for i, word in enumerate(manage) if word.endswith("manage.py")), 0)
        before = [word for word in manage[:program] if not word.startswith("python")]
        return before[-1] if before else WEB_SERVICE

    def _answer(self, output: str) -> dict[str, Any]:
        for line in reversed(output.splitlines()):
            _, mark, answer = line.partition(ANSWER_MARK)
            if mark:
                try:
                    data = json.loads(answer)
                except (ValueError, RecursionError):
                    data = None
                if not isinstance(data, dict):
                    raise ToolFailed(f"{self._checkout.title} printed a result that is not JSON")
                if "error" in data:
                    words = self._secrets.hide(str(data["error"]))[:_LONGEST_ERROR]
                    raise ToolFailed(f"{self._checkout.title}: {words}")
                return data
        raise ToolFailed(
            f"{self.shown('shell')} gave no result; is this the manage.py of a Django application?"
        )

    def _argv(self, *arguments: str) -> list[str]:
        """Returns the command for a management command.

        ``docker compose run -e NAME`` passes on a variable of this process. A value in an argument
        could be read by every user of this machine.
        """
        manage = list(self._checkout.manage)
        names = list(self._missing()) if self._checkout.compose and "run" in manage else []
        if names:
            place = manage.index("run") + 1
            manage[place:place] = [word for name in names for word in ("-e", name)]
        return [*manage, *arguments]

    def _missing(self) -> dict[str, str]:
        """Returns the placeholders for settings that the ``.env`` doesn't have."""
        present = self._written()
        return {key: value for key, value in self.placeholders.items() if not present.get(key)}

    def _written(self) -> dict[str, str]:
        path = self._checkout.settings_file
        return EnvFile.read(path).values() if path else {}

    def _runner(self) -> Runner:
        """Returns a Runner with the environment for manage.py.

        docker compose reads the ``.env`` itself; otherwise it is passed as environment variables.
        An empty value in it does not override one of this process's environment.
        """
        checkout = self._checkout
        path = None if checkout.compose else checkout.settings_file
        values = EnvFile.read(path).over(os.environ) if path else {}
        cwd = checkout.folder or Path.cwd()
        return Runner(self._secrets, cwd=cwd, env=values | self._missing())


def as_line(
    name: str, params: dict[str, Any], package: str = "usher.connect.application.scripts"
) -> str:
    """Returns a script and its parameters as one line for ``manage.py shell``.

    One line works in both cases: ``shell`` reads its input at once, or line by line if the input
    arrives late.
    """
    source = resources.files(package).joinpath(name).read_text()
    given = f"__import__('json').loads({json.dumps(params)!r})"
    scope = f"{{'__name__': {name!r}, 'PARAMS': {given}}}"
    return f"exec(compile({source!r}, {name!r}, 'exec'), {scope})\n"
