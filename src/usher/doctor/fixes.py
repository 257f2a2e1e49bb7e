"""The commands of fixes, for the LMS and the application that doctor examines.

Checks write fixes with the placeholders below. ``fitted`` replaces them by the commands for a demo,
``usher dev``, an embedded LMS, a Tutor root or another Open edX, and for an application with or
without containers.
"""

import re
import shlex
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usher.doctor.context import Context

#: Creates or corrects the LMS's records and the application's record of the LMS.
PROVISION = "<provision>"
#: The same, and the settings in the application's ``.env``.
CONNECT = "<connect>"
#: Restarts the running LMS with the plugin's settings.
LMS_SETTINGS = "<lms settings>"
LMS_LOGS = "<lms logs>"
LMS_START = "<lms start>"
#: The application's ``.env``, and the command that makes its processes read it again.
ENV_FILE = "<env file>"
RESTART = "<restart>"
START_WORKER = "<start worker>"
#: Creates accounts, tokens and enrollments of an application that is not built on Usher.
RECONCILE = "<reconcile>"

_COMMANDS = re.compile(r"<(manage|lms manage) ([^<>]*)>")
#: The programs that fixes run, after environment variables if there are any.
_BEGINS = re.compile(
    r"([A-Z_]+=\S+ )*"
    r"(/\S+|\./manage\.py|\(cd|chmod|docker|echo|export|git|mv|python\S*|sudo|tail|tutor|usher) "
)
#: What follows a command, or explains it, in a sentence.
_PROSE = re.compile(r", (then|or|and)\b|: |; | \(")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_DEV_RESTART = "stop `usher dev` with Ctrl-C and start it again"
_COMPOSE = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")


class Deployment(StrEnum):
    """What runs the LMS. OTHER: an Open edX of which only the address is known."""

    DEMO = "demo"
    DEV = "dev"
    EMBEDDED = "embedded"
    TUTOR = "tutor"
    OTHER = "other"


def manage(arguments: str) -> str:
    """A command of the application's ``manage.py``."""
    return f"<manage {arguments}>"


def lms_manage(arguments: str) -> str:
    """A command of the LMS's ``manage.py lms``."""
    return f"<lms manage {arguments}>"


def setting(line: str) -> str:
    """A line for the application's ``.env``, and how to make its processes read it."""
    return f"{line} in {ENV_FILE}, then {RESTART}"


def fitted(fix: str, context: "Context") -> str:
    """Returns ``fix`` with the commands of this deployment."""
    for word, text in _WORDS[context.deployment].items():
        if word in fix:
            fix = fix.replace(word, text(context))
    for word, text in _APPLICATION.items():
        if word in fix:
            fix = fix.replace(word, text(context))
    return _COMMANDS.sub(lambda found: _command(found[1], found[2], context), fix)


def is_command(fix: str) -> bool:
    """Whether a fitted fix is one command line and nothing else."""
    return bool(_BEGINS.match(fix)) and not _PROSE.search(_QUOTED.sub("''", fix))


def _command(which: str, arguments: str, context: "Context") -> str:
    if which == "manage":
        command = context.application.manage
        return command.shown(arguments) if command else f"./manage.py {arguments}"
    if context.lms_manage is not None:
        return context.lms_manage.shown(arguments)
    if context.deployment is Deployment.TUTOR:
        return f"tutor local run lms ./manage.py lms {arguments}"
    return f"./manage.py lms {arguments} (on the LMS)"


def _demo(more: str) -> Callable[["Context"], str]:
    return lambda context: f"usher demo --home {shlex.quote(str(context.demo_home))}{more}"


def _dev(more: str) -> Callable[["Context"], str]:
    def text(context: "Context") -> str:
        command = context.application.manage
        folder = str(command.folder if command and command.folder else ".")
        home = str(context.dev_home)
        elsewhere = "" if home == f"{folder}/.usher/dev" else f" --home {shlex.quote(home)}"
        return f"usher dev {shlex.quote(folder)}{elsewhere}{more}"

    return text


def _as(text: str) -> Callable[["Context"], str]:
    return lambda _context: text


def _connect(options: str = "") -> Callable[["Context"], str]:
    def text(context: "Context") -> str:
        folder = _folder(context)
        named = f" --application {shlex.quote(str(folder))}" if folder else ""
        return f"usher connect{named}{options}"

    return text


def _log_of_embedded(context: "Context") -> str:
    folder = getattr(context.lms_manage, "folder", None)
    return f"tail -n 100 {shlex.quote(str(folder or '.'))}/lms.log"


def _folder(context: "Context") -> Path | None:
    file = context.application.env_file
    return file.parent if file is not None else None


def _env_file(context: "Context") -> str:
    if context.deployment is Deployment.DEV:  # because it writes its own file at each start
        return "the project's .env or settings"
    file = context.application.env_file
    return shlex.quote(str(file)) if file is not None else "the application's .env"


def _in_containers(context: "Context") -> bool:
    folder = _folder(context)
    return folder is not None and any((folder / name).is_file() for name in _COMPOSE)


def _restart(context: "Context") -> str:
    if context.deployment is Deployment.DEMO:
        return "stop the demo with Ctrl-C and start it again"
    if context.deployment is Deployment.DEV:
        return _DEV_RESTART
    if _in_containers(context):
        return f"(cd {shlex.quote(str(_folder(context)))} && docker compose up -d)"
    return "restart the application's processes (docker compose up -d where it runs in containers)"


def _start_worker(context: "Context") -> str:
    if context.deployment is Deployment.DEMO:
        return f"stop the demo with Ctrl-C and start it again, or: {_watch(context)}"
    if context.deployment is Deployment.DEV:
        return f"{_DEV_RESTART}, or: {_watch(context)}"
    return f"{_watch(context)} (with Celery: a worker and beat, see docs/production.md)"


def _watch(context: "Context") -> str:
    return _command("manage", "reconcile --watch", context)


_Words = dict[str, Callable[["Context"], str]]
_APPLICATION: _Words = {
    ENV_FILE: _env_file,
    RESTART: _restart,
    START_WORKER: _start_worker,
    RECONCILE: lambda context: (
        f"usher reconcile --application {shlex.quote(str(_folder(context)))}"
    ),
}
_WORDS: dict[Deployment, _Words] = {
    Deployment.DEMO: {
        PROVISION: _demo(" --provision"),
        CONNECT: _demo(" --provision"),
        LMS_SETTINGS: lambda context: f"{_demo(' --provision')(context)}, then {RESTART}",
        LMS_LOGS: lambda context: f"tail -n 100 {shlex.quote(str(context.demo_home))}/lms.log",
        LMS_START: _as("stop the demo with Ctrl-C and start it again"),
    },
    Deployment.DEV: {
        PROVISION: _dev(" --provision"),
        CONNECT: _dev(" --provision"),
        LMS_SETTINGS: lambda context: f"{_dev(' --provision')(context)}, then {RESTART}",
        LMS_LOGS: lambda context: f"tail -n 100 {shlex.quote(str(context.dev_home))}/lms.log",
        LMS_START: _as(_DEV_RESTART),
    },
    Deployment.EMBEDDED: {
        PROVISION: _connect(" --lms embedded"),
        CONNECT: _connect(" --lms embedded"),
        LMS_SETTINGS: _connect(" --lms embedded"),
        LMS_LOGS: _log_of_embedded,
        LMS_START: _connect(" --lms embedded"),
    },
    Deployment.TUTOR: {
        PROVISION: _as("tutor local do usher-provision"),
        CONNECT: _connect(),
        LMS_SETTINGS: _as("tutor plugins enable usher && tutor config save && tutor local reboot"),
        LMS_LOGS: _as("tutor local logs --tail=100 lms"),
        LMS_START: _as("tutor local start -d"),
    },
    Deployment.OTHER: {
        PROVISION: _as("./manage.py lms usher_provision --file <description>.json (on the LMS)"),
        CONNECT: _connect(),
        LMS_SETTINGS: _as("activate the settings of usher.lms in the LMS and restart it"),
        LMS_LOGS: _as("read the LMS's log of this minute"),
        LMS_START: _as("start the LMS"),
    },
}
