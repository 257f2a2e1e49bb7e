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
from typing import TYPE_CHECKING

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
_BEGINS = re.compile(
    r"([A-Z_]+=\S+ )*"
    r"(/\S+|\./manage\.py|\(cd|chmod|docker|echo|export|git|mv|python\S*|sudo|tail|tutor|usher) "
)
#: Text that shows that a fix is more than one command: words that follow or explain a command.
_PROSE = re.compile(r", (then|or|and)\b|: |; | \(")
#: The places at which ``split_into_commands`` cuts a fix into sentences and commands.
_BETWEEN = re.compile(r"(?<=:) |[,;] then |, or: |; | (?=\()")
#: The separator at the end of such a piece. Group 1: the word with which the next piece begins.
_SEPARATOR = re.compile(r"(?:[,;] (?=then |or: )|;)? ?(then|or:)? ?$")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
#: Deployments in which one command runs the LMS and the application → the command's name for
#: people.
_COMMAND_OF_BOTH = {"demo": "the demo", "dev": "`usher dev`"}


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
    """Returns a fix: a line for the application's ``.env``, and how to make its processes read
    it."""
    return f"{line} in {ENV_FILE}, then {RESTART}"


def adapt(fix: str, context: "Context") -> str:
    """Returns ``fix`` with the commands of this deployment."""
    for word, text in _WORDS[context.deployment].items():
        if word in fix:
            fix = fix.replace(word, text(context))
    for word, text in _APPLICATION.items():
        if word in fix:
            fix = fix.replace(word, text(context))
    return _COMMANDS.sub(lambda match: _command(match[1], match[2], context), fix)


def is_command(fix: str) -> bool:
    """Whether an adapted fix is one command line and nothing else."""
    return bool(_BEGINS.match(fix)) and not _PROSE.search(_QUOTED.sub("''", fix))


def split_into_commands(fix: str) -> list[tuple[str, bool]]:
    """Returns the sentences and commands of an adapted fix, in order, as pairs: the text, and
    whether it is a command."""
    masked = _QUOTED.sub(lambda quoted: "'" * len(quoted[0]), fix)
    cuts = [0, *(match.end() for match in _BETWEEN.finditer(masked)), len(fix)]
    result: list[tuple[str, bool]] = []
    before = ""
    for start, end in pairwise(cuts):
        text = fix[start:end]
        separator = _SEPARATOR.search(text)
        command = text[: separator.start()] if separator else text
        if is_command(command):
            if before:
                result.append((before.strip(), False))
            result.append((command, True))
            before = f"{separator[1]} " if separator and separator[1] else ""
            continue
        text, before = f"{before}{text}", ""
        if result and not result[-1][1]:
            text = result.pop()[0] + text
        result.append((text, False))
    return [(text.strip(), is_a_command) for text, is_a_command in result if text.strip()]


def _command(which: str, arguments: str, context: "Context") -> str:
    if which == "manage":
        command = context.application.manage
        if command is None:
            return f"./manage.py {arguments}"
        if (
            command.env_file
            and command.env_file == _own_env_file(command.folder)
            and _is_on_usher(context)
        ):
            command = replace(command, env_file=None)  # its settings read that file
        return command.as_typed(arguments)
    if context.lms_manage is not None:
        return context.lms_manage.as_typed(arguments)
    if context.deployment is Deployment.TUTOR:
        return f"tutor local run lms ./manage.py lms {arguments}"
    return f"./manage.py lms {arguments} (on the LMS)"


def _own_env_file(folder: Path | None) -> Path:
    return (folder or Path()) / ".env"


def _is_on_usher(context: "Context") -> bool:
    try:
        return bool(context.application.report.get("usher"))
    except NotKnownError:
        return False


def _demo(more: str) -> Callable[["Context"], str]:
    return lambda context: f"usher demo --home {shlex.quote(str(context.demo_home))}{more}"


def _dev(more: str) -> Callable[["Context"], str]:
    def text(context: "Context") -> str:
        command = context.application.manage
        folder = str(command.folder if command and command.folder else ".")
        home = str(context.dev_home)
        elsewhere = "" if home == f"{folder}/{DEV_FOLDER}" else f" --home {shlex.quote(home)}"
        named = "" if folder == str(Path.cwd()) else f" {shlex.quote(folder)}"
        return f"usher dev{named}{elsewhere}{more}"

    return text


def _as(text: str) -> Callable[["Context"], str]:
    return lambda _context: text


def _connect(context: "Context") -> str:
    return f"usher connect{_application_option(context)}"


def _connect_embedded(context: "Context") -> str:
    folder = getattr(context.lms_manage, "folder", None)
    home = f" --lms-home {shlex.quote(str(folder))}" if folder else ""
    return f"{_connect(context)} --lms embedded{home}"


def _application_option(context: "Context") -> str:
    folder = _folder(context)
    return f" --application {shlex.quote(str(folder))}" if folder else ""


def _log_of_embedded(context: "Context") -> str:
    folder = getattr(context.lms_manage, "folder", None)
    return f"tail -n 100 {shlex.quote(str(folder or '.'))}/lms.log"


def _folder(context: "Context") -> Path | None:
    file = context.application.env_file
    return file.parent if file is not None else None


def _env_file(context: "Context") -> str:
    if context.deployment is Deployment.DEV:  # usher dev writes its .env at each start
        return "the project's .env or settings"
    file = context.application.env_file
    return shlex.quote(str(file)) if file is not None else "the application's .env"


def _in_containers(context: "Context") -> bool:
    """Whether docker compose runs the application. A compose file alone does not show that."""
    command = context.application.manage
    return _has_compose_file(context) and not (command and runs_here(command.words))


def _has_compose_file(context: "Context") -> bool:
    folder = _folder(context)
    return folder is not None and has_compose_file(folder)


def _compose_up(context: "Context", service: str = "") -> str:
    return f"(cd {shlex.quote(str(_folder(context)))} && docker compose up -d{service})"


def _start_command_of_both(context: "Context") -> str:
    """How to start the command that runs the LMS and the application, or to restart it if it is
    running; '' if there is no such command."""
    name = _COMMAND_OF_BOTH.get(context.deployment)
    if name is None:
        return ""
    if _both_are_running(context):
        return f"stop {name} with Ctrl-C and start it again"
    return _dev("")(context) if context.dev_home else f"start {name} again"


def _both_are_running(context: "Context") -> bool:
    home = context.demo_home or context.dev_home
    return home is not None and is_locked(home / "lock")


def _restart(context: "Context") -> str:
    if command := _start_command_of_both(context):
        return command
    if _in_containers(context):
        return _compose_up(context)
    if context.application.manage is not None:
        return "restart the application's processes"
    return "restart the application's processes (docker compose up -d where it runs in containers)"


def _start(context: "Context") -> str:
    if command := _start_command_of_both(context):
        return command
    if _in_containers(context):
        return _compose_up(context)
    start = f"start the application; it must answer at {context.application.url}"
    if context.application.manage is None:
        return start
    return f"{start}. If it does not start, read why: {_command('manage', 'check', context)}"


def _start_worker(context: "Context") -> str:
    watch = _command("manage", "reconcile --watch", context)
    celery = "celery -A PROJECT worker --beat"
    try:
        uses_celery = bool(context.application.report.get("celery"))
    except NotKnownError:
        watch += f" (with Celery: {celery})"
        uses_celery = False
    if command := _start_command_of_both(context):
        return (
            f"{command}, or: {watch}" if _both_are_running(context) and not uses_celery else command
        )
    if uses_celery:
        return f"start the project's Celery worker and beat, such as: {celery}"
    return watch


def _start_broker(context: "Context") -> str:
    start = "start Redis at the address in CELERY_BROKER_URL, or correct that setting"
    return f"{start}: {_compose_up(context, ' redis')}" if _has_compose_file(context) else start


_Words = dict[str, Callable[["Context"], str]]
_APPLICATION: _Words = {
    ENV_FILE: _env_file,
    RESTART: _restart,
    START: _start,
    START_WORKER: _start_worker,
    START_BROKER: _start_broker,
    RECONCILE: lambda context: f"usher reconcile{_application_option(context)}",
}
_WORDS: dict[Deployment, _Words] = {
    Deployment.DEMO: {
        PROVISION: _demo(" --provision"),
        CONNECT: _demo(" --provision"),
        LMS_SETTINGS: lambda context: f"{_demo(' --provision')(context)}, then {RESTART}",
        LMS_LOGS: lambda context: f"tail -n 100 {shlex.quote(str(context.demo_home))}/lms.log",
        LMS_START: _start_command_of_both,
        LMS_PACKAGES: _as("install the packages in the demo's virtual environment"),
    },
    Deployment.DEV: {
        PROVISION: _dev(" --provision"),
        CONNECT: _dev(" --provision"),
        LMS_SETTINGS: lambda context: f"{_dev(' --provision')(context)}, then {RESTART}",
        LMS_LOGS: lambda context: f"tail -n 100 {shlex.quote(str(context.dev_home))}/lms.log",
        LMS_START: _start_command_of_both,
        LMS_PACKAGES: _as("install the packages in the virtual environment of `usher dev`"),
    },
    Deployment.EMBEDDED: {
        PROVISION: _connect_embedded,
        CONNECT: _connect_embedded,
        LMS_SETTINGS: _connect_embedded,
        LMS_LOGS: _log_of_embedded,
        LMS_START: _connect_embedded,
        LMS_PACKAGES: _as("install the packages in the virtual environment of the LMS"),
    },
    Deployment.TUTOR: {
        PROVISION: _as("tutor local do usher-provision"),
        CONNECT: _connect,
        LMS_SETTINGS: _as("tutor plugins enable usher && tutor config save && tutor local reboot"),
        LMS_LOGS: _as("tutor local logs --tail=100 lms"),
        LMS_START: _as("tutor local start -d"),
        LMS_PACKAGES: _as("tutor images build openedx"),
    },
    Deployment.OTHER: {
        PROVISION: _as("./manage.py lms usher_provision --file <description>.json (on the LMS)"),
        CONNECT: _connect,
        LMS_SETTINGS: _as("activate the settings of usher.lms in the LMS and restart it"),
        LMS_LOGS: _as("read the newest lines of the LMS's log"),
        LMS_START: _as("start the LMS"),
        LMS_PACKAGES: _as("install the packages in the LMS's virtual environment or image"),
    },
}
