"""Runs a command with the settings of a ``.env``, read as Usher reads them.

``python -m usher.contract.run_with_env FILE COMMAND...`` is part of a command that Usher prints if
a shell would read the file differently: because of values with spaces or ``&``, Windows line ends,
a byte order mark, or an empty value that would replace a value of the environment.
"""

import os
import sys
from pathlib import Path

from usher.contract.envfile import EnvFile, EnvFileError


def main(file: str, *command: str) -> None:
    """Replaces this process by the command, which gets the settings of the file."""
    try:
        settings = EnvFile.read(Path(file)).values_for_process(os.environ)
        os.execvpe(command[0], command, {**os.environ, **settings})  # noqa: S606 - the operator's own command
    except EnvFileError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"{command[0]} can't be run: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
