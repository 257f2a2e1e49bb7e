"""Commands that an operator copies into a shell."""

import os
import shlex
import sys
from pathlib import Path

from usher.contract.envfile import EnvFile, EnvFileError


def with_env_file(command: str, folder: Path | None, env_file: Path | None) -> str:
    """The command to type in any folder: it changes to ``folder``, unless that is None, and gets
    the settings of ``env_file``, if that exists. command: begins with a program, not with an
    assignment."""
    preparations = [f"cd {shlex.quote(str(folder))}"] if folder else []
    if env_file is not None and env_file.is_file():
        path = shlex.quote(_path_from(folder, env_file))
        if _is_same_in_a_shell(env_file):
            preparations += ["set -a", f". {path}"]
        else:
            runner = f"{shlex.quote(sys.executable)} -P -m usher.contract.run_with_env"
            command = f"{runner} {path} {command}"
    return f"({' && '.join([*preparations, command])})" if preparations else command


def _is_same_in_a_shell(env_file: Path) -> bool:
    """Whether a shell that sources the file gets the settings that Usher gives the program.
    False if an empty value in the file would replace a value of the environment."""
    try:
        settings = EnvFile.read(env_file)
    except (EnvFileError, OSError):
        return True  # neither Usher nor a shell can read the file
    keeps_environment = settings.values_for_process(os.environ) == settings.values()
    return settings.is_same_in_a_shell and keeps_environment


def _path_from(folder: Path | None, env_file: Path) -> str:
    """The path of ``env_file`` for a shell in ``folder``."""
    path = env_file.resolve()
    if folder and path.is_relative_to(folder.resolve()):
        # With a slash, because a shell looks in PATH for a name without a slash.
        return f"./{path.relative_to(folder.resolve())}"
    return str(path)
