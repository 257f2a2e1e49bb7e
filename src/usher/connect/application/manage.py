"""The application's own manage.py: scripts on its standard input, commands by name."""

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

from usher.connect.application.checkout import WEB_SERVICE, Checkout
from usher.connect.errors import ToolFailed
from usher.connect.process import Output, Runner, Secrets
from usher.contract.envfile import EnvFile

ANSWER_MARK = "usher-answer: "
_LONGEST_ERROR = 5000
#: Seconds. A repair goes through all learners.
COMMAND_TIMEOUT = 3600.0


class Manage:
    """Runs management commands, each in a new process that reads the ``.env``."""

    def __init__(self, checkout: Checkout, secrets: Secrets) -> None:
        self._checkout = checkout
        self._secrets = secrets
        #: Settings that the application needs to start and its ``.env`` doesn't have yet.
        self.placeholders: dict[str, str] = {}

    def script(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        """What a script of ``connect/application/scripts`` answers. Raises ToolFailed.

        The script and its parameters, secrets included, go through standard input.
        """
        output = self._runner().run(self._argv("shell"), stdin=as_line(name, params))
        return self._answer(output)

    def walk(self, params: dict[str, Any]) -> dict[str, Any]:
        """Makes or removes the throw-away learner of ``usher.journey``. Raises ToolFailed."""
        line = as_line("learner.py", params, package="usher.journey")
        return self._answer(self._runner().run(self._argv("shell"), stdin=line))

    def command(self, *arguments: str) -> Output:
        """Runs a management command. Raises ToolFailed."""
        return self._runner().output(self._argv(*arguments), timeout=COMMAND_TIMEOUT)

    def shown(self, *arguments: str) -> str:
        return self._runner().shown([*self._checkout.manage, *arguments])

    def compose(self, *arguments: str) -> str:
        """``docker compose …`` in the application's folder, with the options that its manage.py
        is run with, such as the files of its configuration. Raises ToolFailed."""
        return self._runner().run([*self._compose_command(), *arguments])

    def _compose_command(self) -> list[str]:
        manage = self._checkout.manage
        ends = [manage.index(word) for word in ("run", "exec") if word in manage]
        return list(manage[: min(ends)]) if ends else ["docker", "compose"]

    @property
    def service(self) -> str:
        """The compose service that its manage.py runs in."""
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
                    raise ToolFailed(f"{self._checkout.title} gave an answer that can't be read")
                if "error" in data:
                    words = self._secrets.hide(str(data["error"]))[:_LONGEST_ERROR]
                    raise ToolFailed(f"{self._checkout.title}: {words}")
                return data
        raise ToolFailed(
            f"{self.shown('shell')} gave no answer; is this the manage.py of a Django application?"
        )

    def _argv(self, *arguments: str) -> list[str]:
        """``docker compose run -e NAME`` passes on a variable of this process: every user of this
        machine could read a value in an argument."""
        manage = list(self._checkout.manage)
        names = list(self._missing()) if self._checkout.compose and "run" in manage else []
        if names:
            place = manage.index("run") + 1
            manage[place:place] = [word for name in names for word in ("-e", name)]
        return [*manage, *arguments]

    def _missing(self) -> dict[str, str]:
        """The placeholders that are still needed: what the ``.env`` has counts."""
        present = self._written()
        return {key: value for key, value in self.placeholders.items() if not present.get(key)}

    def _written(self) -> dict[str, str]:
        path = self._checkout.env_file
        return EnvFile.read(path).values() if path else {}

    def _runner(self) -> Runner:
        """Compose reads the ``.env`` itself; a process of a virtualenv is given it. There an empty
        line must not hide what the environment has."""
        checkout = self._checkout
        path = None if checkout.compose else checkout.env_file
        values = EnvFile.read(path).over(os.environ) if path else {}
        cwd = checkout.folder or Path.cwd()
        return Runner(self._secrets, cwd=cwd, env=values | self._missing())


def as_line(
    name: str, params: dict[str, Any], package: str = "usher.connect.application.scripts"
) -> str:
    """A script and its parameters for ``manage.py shell``.

    One line, so that it works whether ``shell`` reads all of its input at once or, as it does when
    the input comes a little late, line by line.
    """
    source = resources.files(package).joinpath(name).read_text()
    given = f"__import__('json').loads({json.dumps(params)!r})"
    scope = f"{{'__name__': {name!r}, 'PARAMS': {given}}}"
    return f"exec(compile({source!r}, {name!r}, 'exec'), {scope})\n"
