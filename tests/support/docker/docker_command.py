"""The stand-in for ``docker``, with the calls of Tutor and ``usher connect``."""

import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

from tests.support.docker.compose import Project
from tests.support.docker.containers import CONFIG, run, run_in_lms
from tests.support.docker.engine import ContainerEngine, Refused

#: Docker's exit code for a call that it can't carry out.
FAILED = 125
#: Services whose commands run in the LMS folder. LMS and Studio share one manage.py.
LMS_SERVICES = ("lms", "lms-job", "cms", "cms-job")
LMS, DATABASES = "lms", ("mysql", "mongodb", "meilisearch")
#: File in the engine's folder: the projects with a running container.
RUNNING_FILE = "running.json"
#: Files in the engine's folder: the projects that ``up`` started, and the images that a test marked
#: as missing.
STARTED_FILE, MISSING_FILE = "up.json", "missing-images.json"
#: Options of ``compose run`` and ``exec`` that have no effect here.
_RUN_OPTIONS = ("--rm", "-T", "--no-deps")
#: Commands that start and stop a whole project. No process runs; only the recorded state changes.
_STARTS, _STOPS = ("up", "start", "restart"), ("stop", "down")


def main(arguments: list[str]) -> int:
    engine = ContainerEngine.from_environment(os.environ)
    engine.record_call(["docker", *arguments])
    try:
        match arguments:
            case ["--version"] | ["version"]:
                print("Docker version 27.0.0, stand-in")
                return 0
            case ["ps", "--filter", project, "--format", _]:
                name = project.rpartition("=")[2]
                print("\n".join(running_services(engine, name)))
                return 0
            case ["image", "inspect", image]:
                return 1 if is_missing(engine, image) else 0
            case ["compose", "version", *_]:
                print("Docker Compose version v2.30.0, stand-in")
                return 0
            case ["compose", *rest]:
                return compose(engine, rest)
            case ["buildx", "build", *rest] if rest and Path(rest[-1], "Dockerfile").is_file():
                return 0
        raise Refused(" ".join(arguments))
    except Refused as refusal:
        print(f"stand-in docker: no answer for: {refusal}", file=sys.stderr)
        return FAILED


def compose(engine: ContainerEngine, words: list[str]) -> int:
    """Carries out ``docker compose WORDS``. Returns the exit code. Raises Refused for an unknown
    call."""
    call = read_options(words)
    if call.command[:1] == ["ls"]:
        names = running_projects(engine)
        print(json.dumps([{"Name": name, "Status": "running(1)"} for name in names]))
        return 0
    definition = Project.read(call.files)
    match call.command:
        case ["exec", *rest]:
            if lms_is_stopped(engine, call.project):
                print(f'service "{LMS}" is not running', file=sys.stderr)
                return 1
            return run_service(engine, definition, without_run_options(rest))
        case ["run", *rest]:
            record_build(engine, definition, rest)
            # Docker starts the services on which a job depends, and leaves them running.
            record_running(engine, running_projects(engine) | {call.project})
            return run_service(engine, definition, without_run_options(rest))
        case [action, *rest] if action in _STARTS:
            for word in rest:
                if not word.startswith("-"):
                    definition.service(word)  # raises Refused if it can't be started
            record_running(engine, running_projects(engine) | {call.project})
            started = read_markers(engine, STARTED_FILE) | {call.project}
            write_markers(engine, STARTED_FILE, started)
            return 0
        case [action, *_] if action in _STOPS:
            record_running(engine, running_projects(engine) - {call.project})
            started = read_markers(engine, STARTED_FILE) - {call.project}
            write_markers(engine, STARTED_FILE, started)
            return 0
        case ["ps", *_]:
            return 0  # prints nothing, since there are no containers
    raise Refused(f"compose {' '.join(call.command)}")


def without_run_options(words: list[str]) -> list[str]:
    """The arguments of ``run`` or ``exec``, from the service on. Raises Refused for an unknown
    option, or without a command."""
    rest = list(words)
    while rest and rest[0] in _RUN_OPTIONS:
        rest = rest[1:]
    if len(rest) < 2 or rest[0].startswith("-"):
        raise Refused(f"compose run or exec {' '.join(words)}")
    return rest


def run_service(engine: ContainerEngine, project: Project, words: list[str]) -> int:
    """Runs a command as in a container of a service: the LMS's in the LMS folder, another one in
    the project's folder. words: the service and the command. Returns the exit code."""
    service, *argv = words
    if service in LMS_SERVICES:
        return run_in_lms(engine, argv, project.folder_mounted_at(service, CONFIG))
    definition = project.service(service)
    if not any(str(volume).startswith(".:") for volume in definition.get("volumes", [])):
        raise Refused(f"run {service}: only a service whose code is mounted can run here")
    return run(argv, project.folder, project.environment(service))


class ComposeCall(NamedTuple):
    """A call of ``docker compose``. project: its name."""

    files: list[Path]
    project: str
    command: list[str]


def read_options(words: list[str]) -> ComposeCall:
    """Splits the arguments of ``docker compose`` into files, project name and command, and changes
    to the folder of ``--project-directory``. Raises Refused for an unknown option, or if there is
    no compose file (``ls`` needs none)."""
    files: list[Path] = []
    project, rest = "", list(words)
    while rest and rest[0].startswith("-"):
        option, value, *rest = rest
        if option in ("-f", "--file"):
            files.append(Path(value).resolve())
        elif option in ("-p", "--project-name"):
            project = value
        elif option == "--project-directory":
            os.chdir(value)
        else:
            raise Refused(f"compose {option}")
    if not files:
        names = ("docker-compose.yml", "docker-compose.override.yml")
        files = [Path(name).resolve() for name in names if Path(name).is_file()]
    if not files and rest[:1] != ["ls"]:
        raise Refused(f"no compose file in {Path.cwd()}")
    return ComposeCall(files, project or Path.cwd().name, rest)


def running_projects(engine: ContainerEngine) -> set[str]:
    """Projects with a running container, as ``compose ls`` lists them. Databases that a job started
    count."""
    return read_markers(engine, RUNNING_FILE)


def record_running(engine: ContainerEngine, projects: set[str]) -> None:
    write_markers(engine, RUNNING_FILE, projects)


def running_services(engine: ContainerEngine, project: str) -> set[str]:
    """The running services of a project: all after ``up``, otherwise the databases that a job
    started."""
    if project in read_markers(engine, STARTED_FILE):
        return {LMS, "lms-worker", "caddy", *DATABASES}
    return set(DATABASES) if project in running_projects(engine) else set()


def lms_is_stopped(engine: ContainerEngine, project: str) -> bool:
    """Whether the LMS is stopped. If nothing was ever started, the LMS counts as running, for tests
    that only read."""
    was_started = running_projects(engine) or (engine.home / STARTED_FILE).exists()
    return bool(was_started) and LMS not in running_services(engine, project)


def is_missing(engine: ContainerEngine, image: str) -> bool:
    """Whether a test has marked this image as missing; ``*`` marks all images."""
    return bool({"*", image} & read_markers(engine, MISSING_FILE))


def record_build(engine: ContainerEngine, project: Project, rest: list[str]) -> None:
    """Records that the service's image is built if the image is missing, since docker compose would
    build it. rest: the arguments of ``run``, whose first word that is no option is the service."""
    name = next((word for word in rest if not word.startswith("-")), "")
    if is_missing(engine, project.services.get(name, {}).get("image", "")):
        engine.record_call(["built", name])


def read_markers(engine: ContainerEngine, name: str) -> set[str]:
    """The names in the file ``name`` of the engine's folder; none if there is no file."""
    state = engine.home / name
    return set(json.loads(state.read_text())) if state.exists() else set()


def write_markers(engine: ContainerEngine, name: str, values: set[str]) -> None:
    (engine.home / name).write_text(json.dumps(sorted(values)))
