"""The stand-in for ``docker``, with the calls of Tutor and ``usher connect``."""

import json
import os
import sys
from pathlib import Path

from tests.support.docker.compose import Project
from tests.support.docker.containers import CONFIG, run, run_in_lms
from tests.support.docker.engine import ContainerEngine, Refused

#: Docker's exit code for a call that it can't carry out.
FAILED = 125
#: Services that run in the LMS folder; the platform has one manage.py for both.
LMS_SERVICES = ("lms", "lms-job", "cms", "cms-job")
LMS, DATABASES = "lms", ("mysql", "mongodb", "meilisearch")
#: Names of the files with the projects that ``up`` started, and with the images that are missing.
UP, MISSING = "up.json", "missing-images.json"
_RUN_OPTIONS = ("--rm", "-T", "--no-deps")
#: Commands that start and stop a whole project. No process runs; only the recorded state changes.
_STARTS, _STOPS = ("up", "start", "restart"), ("stop", "down")


def main(arguments: list[str]) -> int:
    engine = ContainerEngine.of_environment(os.environ)
    engine.write_down(["docker", *arguments])
    try:
        match arguments:
            case ["--version"] | ["version"]:
                print("Docker version 27.0.0, stand-in")
                return 0
            case ["ps", "--filter", project, "--format", _]:
                name = project.rpartition("=")[2]
                print("\n".join(services(engine, name)))
                return 0
            case ["image", "inspect", image]:
                return 1 if lacks(engine, image) else 0
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
    files, project, command = read_options(words)
    if command[:1] == ["ls"]:
        print(json.dumps([{"Name": name, "Status": "running(1)"} for name in running(engine)]))
        return 0
    definition = Project.read(files)
    match command:
        case ["run" | "exec" as action, *rest]:
            if action == "exec" and is_down(engine, project):
                print(f'service "{LMS}" is not running', file=sys.stderr)
                return 1
            if action == "run":
                build_missing(engine, definition, rest)
                # Docker starts the services on which a job depends, and leaves them running.
                remember(engine, running(engine) | {project})
            while rest and rest[0] in _RUN_OPTIONS:
                rest = rest[1:]
            if len(rest) > 1 and not rest[0].startswith("-"):
                return run_service(engine, definition, rest[0], rest[1:])
        case [action, *_] if action in _STARTS:
            for service in (word for word in command[1:] if not word.startswith("-")):
                definition.service(service)
            remember(engine, running(engine) | {project})
            write_markers(engine, UP, {*read_markers(engine, UP), project})
            return 0
        case [action, *_] if action in _STOPS:
            remember(engine, running(engine) - {project})
            write_markers(engine, UP, {*read_markers(engine, UP)} - {project})
            return 0
        case ["ps", *_]:
            return 0
    raise Refused(f"compose {' '.join(command)}")


def run_service(engine: ContainerEngine, project: Project, service: str, argv: list[str]) -> int:
    if service in LMS_SERVICES:
        return run_in_lms(engine, argv, project.mounted_at(service, CONFIG))
    definition = project.service(service)
    if not any(str(volume).startswith(".:") for volume in definition.get("volumes", [])):
        raise Refused(f"run {service}: only a service whose code is mounted can run here")
    return run(argv, project.folder, project.environment(service))


def read_options(words: list[str]) -> tuple[list[Path], str, list[str]]:
    """Splits the arguments of ``docker compose`` into files, project name and command."""
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
    return files, project or Path.cwd().name, rest


def running(engine: ContainerEngine) -> set[str]:
    """Projects with a running container, as ``compose ls`` lists them. Databases that a job started
    count."""
    return read_markers(engine, "running.json")


def remember(engine: ContainerEngine, projects: set[str]) -> None:
    write_markers(engine, "running.json", projects)


def services(engine: ContainerEngine, project: str) -> set[str]:
    """The running services of a project: all after ``up``, otherwise the databases that a job
    started."""
    if project in read_markers(engine, UP):
        return {LMS, "lms-worker", "caddy", *DATABASES}
    return set(DATABASES) if project in running(engine) else set()


def is_down(engine: ContainerEngine, project: str) -> bool:
    """Whether the LMS is stopped. If nothing was ever started, the LMS counts as running, for tests
    that only read."""
    was_started = running(engine) or (engine.home / UP).exists()
    return bool(was_started) and LMS not in services(engine, project)


def lacks(engine: ContainerEngine, image: str) -> bool:
    """Whether a test has marked this image as missing; ``*`` marks all images."""
    return bool({"*", image} & read_markers(engine, MISSING))


def build_missing(engine: ContainerEngine, project: Project, rest: list[str]) -> None:
    """Records the build of the service's image if the image is missing, as docker compose would
    build it."""
    name = next((word for word in rest if not word.startswith("-")), "")
    if lacks(engine, project.services.get(name, {}).get("image", "")):
        engine.write_down(["built", name])


def read_markers(engine: ContainerEngine, name: str) -> set[str]:
    state = engine.home / name
    return set(json.loads(state.read_text())) if state.exists() else set()


def write_markers(engine: ContainerEngine, name: str, values: set[str]) -> None:
    (engine.home / name).write_text(json.dumps(sorted(values)))
