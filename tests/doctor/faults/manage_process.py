"""A ``manage.py`` for doctor whose process keeps running between commands."""

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.django_process import DjangoProcess, DjangoProcessError
from usher.doctor.facts.commands import Command, CommandError


class ManageProcess(DjangoProcess):
    """Runs Django's shell and any other command, as doctor does with a ``manage.py``."""

    # What doctor uses of a ``Command``, in addition to the methods below.
    words = (sys.executable, "manage.py")
    env_file = None
    json = Command.json

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(folder, environment)
        self._environment_of_command = environment

    def as_typed(self, arguments: str) -> str:
        return Command(self.words, self.folder, self._environment_of_command).as_typed(arguments)

    def output(self, *arguments: str, stdin: str = "", seconds: float = 60) -> str:
        """Like ``Command.output``, without its time limit ``seconds``."""
        try:
            if arguments == ("shell",):
                return self.run(stdin)
            return self.command(*arguments).checked()
        except DjangoProcessError as error:
            raise CommandError(str(error)) from error
