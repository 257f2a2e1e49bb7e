"""Finds Tutor, its root and its mode, and refuses if one of them is ambiguous."""

import json
import os
import re
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from usher.connect.errors import Refused, ToolFailed, ToolMissing
from usher.connect.openedx import configuration
from usher.connect.process import Runner

#: mode on the command line -> Tutor's command for it.
MODES = {"local": "local", "dev": "dev", "nightly": "dev", "k8s": "k8s"}
#: The oldest and newest major version of Tutor that Usher supports.
OLDEST, NEWEST = 20, 22
#: Suffixes of the version of Tutor's main branch; older releases use "nightly".
MAIN_SUFFIXES = ("main", "nightly")
#: The script prints its result behind this mark.
ANSWER_MARK = "usher-answer: "
#: The command that installs the newest supported Tutor, for messages.
INSTALL = "python3 -m venv ~/tutor && ~/tutor/bin/pip install 'tutor[full]>=22,<23'"


@dataclass(frozen=True)
class Instance:
    """One Tutor root. tutor: the executable; python: the Python that it runs in; mode: a key of
    MODES; report: the last result of ``inspect_root``."""

    tutor: Path
    python: Path
    root: Path
    mode: str
    report: dict[str, Any]

    @property
    def command(self) -> str:
        return MODES[self.mode]

    @property
    def is_plugin_enabled(self) -> bool:
        return "usher" in self.report["enabled"]

    @property
    def lms_url(self) -> str:
        """Returns the address for browsers; with a port only in dev mode."""
        return self._at("LMS_HOST", port_in_dev=8000)

    @property
    def studio_url(self) -> str:
        return self._at("CMS_HOST", port_in_dev=8001)

    def _at(self, name: str, *, port_in_dev: int) -> str:
        """Returns the address of the host in the setting ``name``."""
        values = self.report["values"]
        if self.command == "dev":
            return f"http://{values[name]}:{port_in_dev}"
        scheme = "https" if values["ENABLE_HTTPS"] else "http"
        return f"{scheme}://{values[name]}"

    @property
    def project(self) -> str:
        """The name of the platform's docker compose project."""
        key = "DEV_PROJECT_NAME" if self.command == "dev" else "LOCAL_PROJECT_NAME"
        return str(self.report["values"][key])

    @property
    def config_file(self) -> Path:
        return self.root / "config.yml"

    @property
    def description_file(self) -> Path:
        """The file that the plugin renders for ``usher_provision``, with all ids and secrets."""
        return self.root / "env/apps/openedx/config/usher.json"


def find_tutor(option: str) -> tuple[Path, Path]:
    """Returns the ``tutor`` executable and the Python that it runs in. Raises Refused."""
    path = shutil.which(option or "tutor")
    if not path:
        problem = f"{option} is not a program" if option else "There is no tutor on PATH"
        raise Refused(
            f"{problem}. Activate Tutor's virtual environment, or name the program with --tutor. "
            f"To install Tutor:\n$ {INSTALL}\nTo use a small LMS on this machine instead, without "
            "Tutor, add `--lms embedded`; in a Django project of your own, run `usher dev`."
        )
    tutor = Path(path).absolute()
    # A script that pip has installed names its Python in the first line.
    first_line = tutor.read_bytes().split(b"\n", 1)[0]
    if first_line.startswith(b"#!/") and b"/env " not in first_line:
        python = Path(first_line[2:].decode().split()[0])
        if python.name.startswith("python") and python.exists():
            return tutor, python
    for name in ("python", "python3"):
        interpreter = tutor.resolve().parent / name
        if interpreter.exists():
            return tutor, interpreter
    raise Refused(
        f"{tutor} is Tutor's binary, which can't have plugins installed. Install Tutor by pip:\n"
        f"$ {INSTALL}"
    )


def find_root(option: str, tutor: Path, runner: Runner) -> Path:
    """Returns Tutor's root: ``--tutor-root``, ``TUTOR_ROOT``, or Tutor's own default.

    Raises Refused if the root can't be used, or if none was named and there is another root than
    the default; ToolFailed.
    """
    name = option or os.environ.get("TUTOR_ROOT", "")
    if name:
        try:
            root = Path(name).expanduser().resolve()
        except RuntimeError as error:  # an unknown home folder, or links in a circle
            raise Refused(f"Tutor's root {name} can't be found: {error}") from error
        return _require_usable_root(
            root, "named by --tutor-root" if option else "named by TUTOR_ROOT"
        )
    default = Path(runner.run([tutor, "config", "printroot"]).strip().splitlines()[-1])
    candidates = sorted(default.parent.glob("tutor*")) if default.parent.is_dir() else []
    roots = [path for path in candidates if (path / "config.yml").is_file()]
    if len(roots) > 1:
        lines = "\n".join(f"  --tutor-root {path}" for path in roots)
        raise Refused(f"there are {len(roots)} Tutor roots; name one of them:\n{lines}")
    if roots and roots != [default]:
        raise Refused(
            f"{default}, Tutor's default root, holds no config.yml, but another root does; name "
            f"it: --tutor-root {roots[0]}"
        )
    return _require_usable_root(default, "printed by 'tutor config printroot'")


def _require_usable_root(root: Path, origin: str) -> Path:
    """Returns ``root`` if its config.yml can be read and changed. origin: for the message, where
    the path comes from. Raises Refused."""
    config = root / "config.yml"
    if not config.is_file():
        raise Refused(
            f"{root} ({origin}) holds no config.yml; name the right root with --tutor-root, or "
            "create the platform first: tutor local launch"
        )
    configuration.read(config)
    for place in (root, config, root / "env"):
        if place.exists() and not os.access(place, os.W_OK):
            raise Refused(
                f"{place} can't be written; run this command as its owner, or make it writable"
            )
    return root


def inspect_root(python: Path, root: Path, runner: Runner) -> dict[str, Any]:
    """Returns the report of ``scripts/inspect_root.py`` about this root.

    Raises Refused with Tutor's error; ToolFailed.
    """
    source = (
        resources.files("usher.connect.openedx.scripts").joinpath("inspect_root.py").read_text()
    )
    params = json.dumps({"root": str(root)})
    script = f"PARAMS = __import__('json').loads({params!r})\n{source}"
    output = runner.run([python, "-"], stdin=script)
    for line in reversed(output.splitlines()):
        _, mark, answer = line.partition(ANSWER_MARK)
        if mark:
            data = json.loads(answer)
            if "error" in data:
                raise Refused(f"Tutor can't read {root}: {data['error']}")
            return dict(data)
    raise Refused(f"{python} gave no answer; is it the Python that Tutor runs in?")


def check_version(version: str) -> str:
    """Returns a warning, or "". Raises Refused for a version that Usher does not support."""
    match = re.match(r"(\d+)\.", version)
    major = int(match.group(1)) if match else 0
    is_main = version.rpartition("-")[2] in MAIN_SUFFIXES
    if OLDEST <= major <= NEWEST:
        return ""
    if is_main and major > NEWEST:
        return f"Usher was tested with Tutor {OLDEST} to {NEWEST}; this is Tutor {version}"
    raise Refused(
        f"Tutor {version} is not supported; Usher supports {OLDEST} to {NEWEST}. "
        f"Install one: {INSTALL}"
    )


def find_mode(option: str, version: str, running: list[str]) -> tuple[str, str]:
    """Returns the mode, and the reason for it as shown to people.

    running: the result of ``running_modes``. Raises Refused if the mode is ambiguous. Also raises
    Refused if the platform runs in another mode: a command of Tutor in one mode stops the platform
    of the other mode.
    """
    is_main = version.rpartition("-")[2] in MAIN_SUFFIXES
    if option == "nightly" and not is_main:
        raise Refused(f"--mode nightly needs Tutor Main; this is Tutor {version}. Try --mode dev")
    if option == "k8s":  # stops nothing on this machine
        return option, "by --mode"
    if option:
        if running and MODES[option] not in running:
            raise Refused(
                f"--mode {option}, but the platform runs in {' and '.join(running)} mode, which "
                f"would be stopped; use --mode {running[0]}, or stop it: tutor {running[0]} stop"
            )
        return option, "by --mode"
    if len(running) > 1:
        raise Refused("the platform runs in local and in dev mode; choose one with --mode")
    if running:
        mode = "nightly" if is_main and running == ["dev"] else running[0]
        return mode, "the platform runs in this mode"
    return "local", "the platform does not run; choose another mode with --mode"


def running_modes(values: dict[str, Any], runner: Runner) -> list[str]:
    """Returns which of ``local`` and ``dev`` are running. Raises Refused if docker fails."""
    command = ["docker", "compose", "ls", "--format", "json"]  # the projects of all folders
    try:
        names = {entry["Name"] for entry in json.loads(runner.run(command, timeout=60))}
    except ToolMissing as error:
        raise Refused(f"{error}; Tutor needs docker for the modes local and dev") from error
    except ToolFailed as error:
        raise Refused(f"docker does not answer: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"docker's list of projects can't be read: {error}") from error
    modes = {"local": values["LOCAL_PROJECT_NAME"], "dev": values["DEV_PROJECT_NAME"]}
    return [mode for mode, name in modes.items() if name in names]


def lms_runs(instance: Instance, runner: Runner) -> bool:
    """Whether the LMS is running, and in local mode also its proxy. Raises ToolFailed.

    Running databases don't count: jobs start them and leave them running.
    """
    label = "com.docker.compose"
    service = '{{.Label "' + label + '.service"}}'
    options = ["--filter", f"label={label}.project={instance.project}", "--format", service]
    running_services = set(runner.run(["docker", "ps", *options], timeout=60).split())
    needed_services = {"lms"} if instance.command == "dev" else {"lms", "caddy"}
    return running_services >= needed_services


def check_cluster(runner: Runner, namespace: str) -> None:
    """Raises Refused if kubectl does not reach the cluster."""
    try:
        runner.run(["kubectl", "get", "namespaces", namespace], timeout=60)
    except ToolFailed as error:
        raise Refused(f"the cluster does not answer for namespace {namespace}: {error}") from error


def refresh(instance: Instance, runner: Runner) -> Instance:
    """Returns the instance with a new result of ``inspect_root``."""
    report = inspect_root(instance.python, instance.root, runner)
    return Instance(instance.tutor, instance.python, instance.root, instance.mode, report)
