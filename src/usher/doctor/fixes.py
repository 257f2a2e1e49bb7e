"""The commands of fixes, for the LMS and the application that doctor examines.

Checks write fixes with the placeholders below. ``adapt`` replaces them by the commands for a demo,
``usher dev``, an embedded LMS, a Tutor root or another Open edX, and for an application with or
without containers.
"""

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from usher.contract.folders import DEV_FOLDER, has_compose_file, is_locked, runs_here
from usher.doctor.facts.memo import NotKnownError

if TYPE_CHECKING:
    from usher.doctor.context import Context

#: Creates or corrects the LMS's records and the application's record of the LMS.
PROVISION = "<provision>"
#: Like PROVISION, and also writes the settings to the application's ``.env``.
CONNECT = "<connect>"
#: Restarts the running LMS with the plugin's settings.
LMS_SETTINGS = "<lms settings>"
LMS_LOGS = "<lms logs>"
LMS_START = "<lms start>"
#: The application's ``.env``, and the command that makes its processes read it again.
ENV_FILE = "<env file>"
RESTART = "<restart>"
#: Starts the application, which does not answer.
START = "<start>"
START_WORKER = "<start worker>"
START_BROKER = "<start broker>"
#: Installs the packages that the LMS needs.
LMS_PACKAGES = "<lms packages>"
#: Creates accounts, tokens and enrollments of an application that is not built on Usher.
RECONCILE = "<reconcile>"

_COMMANDS = re.compile(r"<(manage|lms manage) ([^<>]*)>")
#: The programs that fixes run, after environment variables if there are any.
_COMMAND_START = re.compile(
    r"([A-Z_]+=\S+ )*"
    r"(/\S+|\./manage\.py|\(cd|chmod|docker|echo|export|git|mv|python\S*|sudo|tail|tutor|usher) "
)
#: Text that shows that a fix is more than one command: words that follow or explain a command.
_PROSE = re.compile(r", (then|or|and)\b|: |; | \(")
#: The places at which ``split_into_commands`` cuts a fix into sentences and commands.
_CUT = re.compile(r"(?<=:) |[,;] then |, or: |; | (?=\()")
#: The separator at the end of such a piece. Group 1: the word with which the next piece begins.
_SEPARATOR = re.compile(r"(?:[,;] (?=then |or: )|;)? ?(then|or:)? ?$")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
#: Deployment in which one command runs both the LMS and the application → the command's name for
#: people.
_NAMES_OF_BOTH = {"demo": "the demo", "dev": "`usher dev`"}


class Deployment(StrEnum):
    """The program that runs the LMS. OTHER: an Open edX of which only the address is known."""

    DEMO = "demo"
    DEV = "dev"
    EMBEDDED = "embedded"
    TUTOR = "tutor"
    OTHER = "other"


def manage(arguments: str) -> str:
    """Returns the placeholder for a command of the application's ``manage.py``."""
    return f"<manage {arguments}>"


def lms_manage(arguments: str) -> str:
    """Returns the placeholder for a command of the LMS's ``manage.py lms``."""
    return f"<lms manage {arguments}>"


def setting(line: str) -> str:
    """Returns a fix: a line for the application's ``.env``, and how to make the application read
    that line."""
    return f"{line} in {ENV_FILE}, then {RESTART}"


def adapt(fix: str, context: "Context") -> str:
    """Returns ``fix`` with the commands of this deployment."""
    # The texts for the LMS first, since they may contain placeholders of the application.
    for texts in (_LMS_TEXTS[context.deployment], _APPLICATION_TEXTS):
        for placeholder, text_for in texts.items():
            if placeholder in fix:
                fix = fix.replace(placeholder, text_for(context))
    return _COMMANDS.sub(lambda match: _manage_command(match[1], match[2], context), fix)


def is_command(fix: str) -> bool:
    """Whether an adapted fix is one command line and nothing else."""
    return bool(_COMMAND_START.match(fix)) and not _PROSE.search(_QUOTED.sub("''", fix))


class FixPart(NamedTuple):
    """A sentence or a command of a fix."""

    text: str
    is_command: bool


def split_into_commands(fix: str) -> list[FixPart]:
    """Returns the sentences and commands of an adapted fix, in order."""
    parts: list[FixPart] = []
    connecting_word = ""  # between the last command and the next piece, such as "then"
    for piece in _pieces(fix):
        command, following_word = _without_separator(piece)
        if is_command(command):
            if connecting_word:
                parts.append(FixPart(connecting_word, is_command=False))
            parts.append(FixPart(command, is_command=True))
            connecting_word = following_word
            continue
        text = f"{connecting_word} {piece}" if connecting_word else piece
        connecting_word = ""
        if parts and not parts[-1].is_command:
            text = parts.pop().text + text
        parts.append(FixPart(text, is_command=False))
    return [part._replace(text=part.text.strip()) for part in parts if part.text.strip()]


def _pieces(fix: str) -> list[str]:
    """A fix, cut between its sentences and commands. Quoted text is not cut."""
    masked = _QUOTED.sub(lambda quoted: "'" * len(quoted[0]), fix)
    cuts = [0, *(match.end() for match in _CUT.finditer(masked)), len(fix)]
    return [fix[start:end] for start, end in pairwise(cuts)]


def _without_separator(piece: str) -> tuple[str, str]:
    """Splits ``usher connect, then `` into ``usher connect`` and ``then``: the piece without the
    separator at its end, and the separator's word, which belongs to the next piece, or ''."""
    separator = _SEPARATOR.search(piece)
    if separator is None:
        return piece, ""
    return piece[: separator.start()], separator[1] or ""


def _manage_command(program: str, arguments: str, context: "Context") -> str:
    """A command of the application's ``manage.py`` if ``program`` is ``manage``, else of the
    LMS's."""
    if program == "manage":
        return _application_manage_command(arguments, context)
    if context.lms_manage is not None:
        return context.lms_manage.as_typed(arguments)
    if context.deployment is Deployment.TUTOR:
        return f"tutor local run lms ./manage.py lms {arguments}"
    return f"./manage.py lms {arguments} (on the LMS)"


def _application_manage_command(arguments: str, context: "Context") -> str:
    command = context.application.manage
    if command is None:
        return f"./manage.py {arguments}"
    has_own_env_file = command.env_file == _own_env_file(command.folder)
    if has_own_env_file and _is_built_on_usher(context):
        # The command need not read the file: the application's settings do.
        command = replace(command, env_file=None)
    return command.as_typed(arguments)


def _own_env_file(folder: Path | None) -> Path:
    """The ``.env`` that a project's settings read by themselves."""
    return (folder or Path()) / ".env"


def _is_built_on_usher(context: "Context") -> bool:
    """Whether the application is built on Usher; False if its report can't be obtained."""
    try:
        return bool(context.application.report.get("usher"))
    except NotKnownError:
        return False


def _demo_command(options: str) -> Callable[["Context"], str]:
    """A function that returns the command ``usher demo`` for the demo that is examined."""
    return lambda context: f"usher demo --home {shlex.quote(str(context.demo_home))} {options}"


def _dev_command(options: str = "") -> Callable[["Context"], str]:
    """A function that returns the command ``usher dev`` for the project that is examined."""

    def text(context: "Context") -> str:
        command = context.application.manage
        folder = str(command.folder) if command and command.folder else "."
        home = str(context.dev_home)
        home_option = "" if home == f"{folder}/{DEV_FOLDER}" else f" --home {shlex.quote(home)}"
        folder_argument = "" if folder == str(Path.cwd()) else f" {shlex.quote(folder)}"
        return f"usher dev{folder_argument}{home_option} {options}".rstrip()

    return text


def _always(text: str) -> Callable[["Context"], str]:
    return lambda _context: text


def _connect_command(context: "Context") -> str:
    return f"usher connect{_application_option(context)}"


def _connect_embedded_command(context: "Context") -> str:
    folder = getattr(context.lms_manage, "folder", None)
    home = f" --lms-home {shlex.quote(str(folder))}" if folder else ""
    return f"{_connect_command(context)} --lms embedded{home}"


def _application_option(context: "Context") -> str:
    """`` --application FOLDER``; '' if the folder is not known."""
    folder = _application_folder(context)
    return f" --application {shlex.quote(str(folder))}" if folder else ""


def _embedded_log_command(context: "Context") -> str:
    folder = getattr(context.lms_manage, "folder", None)
    return f"tail -n 100 {shlex.quote(str(folder or '.'))}/lms.log"


def _application_folder(context: "Context") -> Path | None:
    file = context.application.env_file
    return file.parent if file is not None else None


def _env_file_text(context: "Context") -> str:
    if context.deployment is Deployment.DEV:  # usher dev writes its .env at each start
        return "the project's .env or settings"
    file = context.application.env_file
    return shlex.quote(str(file)) if file is not None else "the application's .env"


def _runs_in_containers(context: "Context") -> bool:
    """Whether docker compose runs the application. A project with a compose file may also run
    without containers."""
    command = context.application.manage
    return _has_compose_file(context) and not (command and runs_here(command.words))


def _has_compose_file(context: "Context") -> bool:
    folder = _application_folder(context)
    return folder is not None and has_compose_file(folder)


def _compose_up_command(context: "Context", service: str = "") -> str:
    """The command that starts the compose service ``service`` of the application, or all its
    services."""
    folder = shlex.quote(str(_application_folder(context)))
    command = f"docker compose up -d {service}".rstrip()
    return f"(cd {folder} && {command})"


def _start_application_and_lms_text(context: "Context") -> str:
    """How to start, or restart, the command that runs both the LMS and the application; '' if there
    is no such command."""
    name = _NAMES_OF_BOTH.get(context.deployment)
    if name is None:
        return ""
    if _application_and_lms_run(context):
        return f"stop {name} with Ctrl-C and start it again"
    return _dev_command()(context) if context.dev_home else f"start {name} again"


def _application_and_lms_run(context: "Context") -> bool:
    home = context.demo_home or context.dev_home
    return home is not None and is_locked(home / "lock")


def _restart_text(context: "Context") -> str:
    if command := _start_application_and_lms_text(context):
        return command
    if _runs_in_containers(context):
        return _compose_up_command(context)
    if context.application.manage is not None:
        return "restart the application's processes"
    return "restart the application's processes (docker compose up -d where it runs in containers)"


def _start_text(context: "Context") -> str:
    if command := _start_application_and_lms_text(context):
        return command
    if _runs_in_containers(context):
        return _compose_up_command(context)
    start = f"start the application; it must answer at {context.application.url}"
    if context.application.manage is None:
        return start
    return (
        f"{start}. If it does not start, read why: {_application_manage_command('check', context)}"
    )


def _start_worker_text(context: "Context") -> str:
    """How to start the sync worker."""
    watch = _application_manage_command("reconcile --watch", context)
    celery = "celery -A PROJECT worker --beat"
    try:
        uses_celery = bool(context.application.report.get("celery"))
    except NotKnownError:
        watch += f" (with Celery: {celery})"
        uses_celery = False
    if command := _start_application_and_lms_text(context):
        if _application_and_lms_run(context) and not uses_celery:
            return f"{command}, or: {watch}"  # only the worker is missing
        return command
    if uses_celery:
        return f"start the project's Celery worker and beat, such as: {celery}"
    return watch


def _start_broker_text(context: "Context") -> str:
    """How to start Redis, with compose's service ``redis`` if the project has a compose file."""
    start = "start Redis at the address in CELERY_BROKER_URL, or correct that setting"
    if not _has_compose_file(context):
        return start
    return f"{start}: {_compose_up_command(context, service='redis')}"


#: Placeholder → a function that returns the text for this deployment.
_Texts = dict[str, Callable[["Context"], str]]
_APPLICATION_TEXTS: _Texts = {
    ENV_FILE: _env_file_text,
    RESTART: _restart_text,
    START: _start_text,
    START_WORKER: _start_worker_text,
    START_BROKER: _start_broker_text,
    RECONCILE: lambda context: f"usher reconcile{_application_option(context)}",
}
_LMS_TEXTS: dict[Deployment, _Texts] = {
    Deployment.DEMO: {
        PROVISION: _demo_command("--provision"),
        CONNECT: _demo_command("--provision"),
        LMS_SETTINGS: lambda context: f"{_demo_command('--provision')(context)}, then {RESTART}",
        LMS_LOGS: lambda context: f"tail -n 100 {shlex.quote(str(context.demo_home))}/lms.log",
        LMS_START: _start_application_and_lms_text,
        LMS_PACKAGES: _always("install the packages in the demo's virtual environment"),
    },
    Deployment.DEV: {
        PROVISION: _dev_command("--provision"),
        CONNECT: _dev_command("--provision"),
        LMS_SETTINGS: lambda context: f"{_dev_command('--provision')(context)}, then {RESTART}",
        LMS_LOGS: lambda context: f"tail -n 100 {shlex.quote(str(context.dev_home))}/lms.log",
        LMS_START: _start_application_and_lms_text,
        LMS_PACKAGES: _always("install the packages in the virtual environment of `usher dev`"),
    },
    Deployment.EMBEDDED: {
        PROVISION: _connect_embedded_command,
        CONNECT: _connect_embedded_command,
        LMS_SETTINGS: _connect_embedded_command,
        LMS_LOGS: _embedded_log_command,
        LMS_START: _connect_embedded_command,
        LMS_PACKAGES: _always("install the packages in the virtual environment of the LMS"),
    },
    Deployment.TUTOR: {
        PROVISION: _always("tutor local do usher-provision"),
        CONNECT: _connect_command,
        LMS_SETTINGS: _always(
            "tutor plugins enable usher && tutor config save && tutor local reboot"
        ),
        LMS_LOGS: _always("tutor local logs --tail=100 lms"),
        LMS_START: _always("tutor local start -d"),
        LMS_PACKAGES: _always("tutor images build openedx"),
    },
    Deployment.OTHER: {
        PROVISION: _always(
            "./manage.py lms usher_provision --file <description>.json (on the LMS)"
        ),
        CONNECT: _connect_command,
        LMS_SETTINGS: _always("activate the settings of usher.lms in the LMS and restart it"),
        LMS_LOGS: _always("read the newest lines of the LMS's log"),
        LMS_START: _always("start the LMS"),
        LMS_PACKAGES: _always("install the packages in the LMS's virtual environment or image"),
    },
}
