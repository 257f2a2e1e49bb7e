"""A ``manage.py`` as doctor calls one, in a process that stays."""

import sys

from tests.support.warm import WarmDjango, WarmError
from usher.doctor.facts.commands import Command, CommandError


class WarmManage(WarmDjango):
    """Understands what doctor asks of a ``manage.py``: its shell, and any command."""

    words = (sys.executable, "manage.py")
    json = Command.json

    def output(self, *more: str, stdin: str = "", seconds: float = 60) -> str:
        try:
            return self.run(stdin) if more == ("shell",) else self.command(*more).checked()
        except WarmError as error:
            raise CommandError(str(error)) from error
