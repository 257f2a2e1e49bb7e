"""One Open edX run by Tutor: what it is now, and the commands that change it."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from usher.connect.errors import Refused, ToolFailed
from usher.connect.openedx import configuration, leftovers
from usher.connect.openedx.instance import Instance, refreshed, runs
from usher.connect.process import Runner
from usher.contract.provisioning import Description, DescriptionError

#: Seconds. Migrations on first use, and containers that wait for their database.
JOB_TIMEOUT = 1800.0
#: What an image without Usher answers to ``usher_provision``.
_NOT_IN_IMAGE = ("Unknown command", "No module named 'usher'", "No module named 'usher.lms'")
_MANAGE = ("./manage.py", "lms")
#: How Tutor names a job that it has started in a cluster, whose output it doesn't show.
_JOB = re.compile(r"\bJob (\S+) (?:is running|successful|failed)")
#: Seconds for the pods of a deployment to be replaced.
ROLLOUT_SECONDS = 600


#: Where the rendered description lies in the LMS's container.
_DESCRIPTION = '"$(dirname "$LMS_CFG")/usher.json"'
_PREVIEW = (*_MANAGE, "usher_provision", "--dry-run", "--file", _DESCRIPTION)


class ImageLacksUsher(ToolFailed):
    """The LMS's image was built without Usher."""


class NotRunning(ToolFailed):
    """The LMS does not run: to ask it, its databases would have to be started."""


class Platform:
    """Answers are remembered until something changes; who changes the root calls ``forget``."""

    def __init__(self, instance: Instance, runner: Runner) -> None:
        self.instance = instance
        self._runner = runner
        self._fresh = True
        self._preview: dict[str, Any] | ToolFailed | None = None
        self._applied: bool | None = None

    def forget(self) -> None:
        """After every change of configuration, plugins or rendered files."""
        self._fresh = False
        self._forget_running()

    def _forget_running(self) -> None:
        self._preview, self._applied = None, None

    @property
    def place(self) -> Path:
        return self.instance.root

    @property
    def config_file(self) -> Path:
        return self.instance.config_file

    @property
    def lms_url(self) -> str:
        return self.instance.lms_url

    @property
    def enabled(self) -> bool:
        return self.now.enabled

    @property
    def logs_command(self) -> str:
        return f"tutor {self.instance.command} logs --tail=100 lms"

    def entries(self) -> list[dict[str, Any]]:
        return configuration.entries(self.config_file, self.now.look)

    def leftovers(self) -> Iterable[str]:
        return leftovers.found(self.now.root, self.now.look)

    def connection(self) -> dict[str, str]:
        found = self.instance
        return {"tutor": str(found.tutor), "tutor_root": str(found.root), "mode": found.mode}

    def render_command(self) -> str:
        return self.shown("config", "save")

    @property
    def now(self) -> Instance:
        if not self._fresh:
            self.instance = refreshed(self.instance, self._runner)
            self._fresh = True
        return self.instance

    def tutor(self, *arguments: str) -> str:
        """Runs ``tutor --root ROOT …``, which may render. Raises ToolFailed."""
        self.forget()
        return self._run(*arguments)

    def shown(self, *arguments: str) -> str:
        """The same command as a person would type it."""
        return self._runner.shown(["tutor", "--root", str(self.instance.root), *arguments])

    def in_mode(self, *arguments: str, stdin: str = "") -> str:
        """Runs ``tutor --root ROOT local|dev|k8s …``, which renders nothing. Raises ToolFailed."""
        self._forget_running()
        return self._run(self.instance.command, *arguments, stdin=stdin)

    def description(self) -> Description | None:
        """What the plugin rendered for the LMS; None before it did. Raises Refused."""
        path = self.instance.description_file
        if not path.is_file() or not path.read_text().strip():
            return None
        try:
            return Description.from_json(path.read_text())
        except DescriptionError as error:
            raise Refused(f"{path}: {error}; render it again: tutor config save") from error

    def preview(self) -> dict[str, Any]:
        """What ``usher_provision`` would change, asked of the LMS that runs: a job would start the
        databases and leave them running, and build an image that isn't there.

        Raises ImageLacksUsher, NotRunning, ToolFailed.
        """
        if self._preview is None:
            self._preview = self._asked(self._ask_the_running)
        if isinstance(self._preview, ToolFailed):
            raise self._preview
        return self._preview

    def has_usher_in_image(self) -> bool:
        """Asked of the image itself, by a job. The container that runs may be of an older one."""
        if not self._image_is_there():
            return False
        return not isinstance(self._asked(self._ask_by_job), ImageLacksUsher)

    def _asked(self, ask: Callable[[], str]) -> dict[str, Any] | ToolFailed:
        try:
            return last_json(ask())
        except ToolFailed as error:
            lacks = any(words in str(error) for words in _NOT_IN_IMAGE)
            return ImageLacksUsher(str(error)) if lacks else error

    def _ask_by_job(self) -> str:
        return self._job("usher-provision", "--dry-run")

    def _ask_the_running(self) -> str:
        script = " ".join(_PREVIEW)
        if self.in_cluster:
            words = ["exec", "-i", "deploy/lms", "--", "sh", "-e", "-c", script]
            return self._kubectl(*words)
        if not runs(self.instance, self._runner):
            raise NotRunning("the LMS does not run, so what it has can't be seen")
        return self._run(self.instance.command, "exec", "-T", "lms", "sh", "-e", "-c", script)

    def _image_is_there(self) -> bool:
        """On this machine. Where it is missing, a job would build or pull it without asking."""
        if self.in_cluster:
            return True
        key = "DOCKER_IMAGE_OPENEDX" + ("_DEV" if self.instance.command == "dev" else "")
        try:
            self._runner.run(["docker", "image", "inspect", str(self.instance.look["values"][key])])
        except ToolFailed:
            return False
        return True

    def provision(self) -> dict[str, Any]:
        """What ``usher_provision`` did. Raises ToolFailed."""
        self._forget_running()
        return last_json(self._job("init", "--limit=usher"))

    def remove(self, description: Description, *, purge: bool) -> dict[str, Any]:
        """Takes away what this description made; it goes in by standard input."""
        command = [*_MANAGE, "usher_provision", "--remove", "--file", "-"]
        command += ["--purge"] if purge else []
        stdin = description.to_json()
        if self.in_cluster:
            return last_json(self._kubectl("exec", "-i", "deploy/lms", "--", *command, stdin=stdin))
        return last_json(self.in_mode("run", "lms", *command, stdin=stdin))

    def build(self) -> None:
        self._forget_running()
        for image in self.images():
            self._runner.watch(self._argv("images", "build", image))

    def images(self) -> list[str]:
        return ["openedx-dev"] if self.instance.command == "dev" else ["openedx"]

    def restart(self, *, running: bool) -> None:
        """The LMS reads its settings when it starts, and containers their addresses when made."""
        if self.in_cluster:
            self.in_mode("start")
            for service in self.services():
                wait = f"--timeout={ROLLOUT_SECONDS}s"
                self._kubectl("rollout", "status", f"deployment/{service}", wait)
        elif running:
            self.in_mode("reboot", "--detach", *self.services())
        else:
            self.in_mode("start", "--detach")

    @property
    def in_cluster(self) -> bool:
        return self.instance.command == "k8s"

    def is_applied(self) -> bool:
        """Whether the cluster has the rendered configuration: the name of each ConfigMap ends in a
        hash of its content. Raises ToolFailed."""
        if self._applied is None:
            rendered = self._kubectl("kustomize", str(self.instance.root / "env"))
            found = [each for each in yaml.safe_load_all(rendered) if each]
            names = [each["metadata"]["name"] for each in found if each["kind"] == "ConfigMap"]
            try:
                self._kubectl("get", "configmaps", *names)
            except ToolFailed:
                self._applied = False
            else:
                self._applied = True
        return self._applied

    def services(self) -> list[str]:
        return ["lms"] if self.instance.command == "dev" else ["lms", "lms-worker"]

    def _job(self, *words: str) -> str:
        """What ``tutor local|dev|k8s do WORDS`` prints. Raises ToolFailed."""
        try:
            output = self._run(self.instance.command, "do", *words)
        except ToolFailed as error:
            if not self.in_cluster:
                raise
            try:
                logs = self._logs(str(error))
            except ToolFailed:
                logs = ""
            raise ToolFailed(f"{error}\n{logs}".strip(), error.exit_code) from error
        return self._logs(output) if self.in_cluster else output

    def _logs(self, told: str) -> str:
        """What the jobs that Tutor has told of have printed. Raises ToolFailed."""
        names = dict.fromkeys(_JOB.findall(told))
        return "\n".join(self._kubectl("logs", f"job/{name}") for name in names)

    def _kubectl(self, *words: str, stdin: str = "") -> str:
        namespace = str(self.instance.look["values"]["K8S_NAMESPACE"])
        command = ["kubectl", "--namespace", namespace, *words]
        return self._runner.run(command, stdin=stdin, timeout=JOB_TIMEOUT)

    def _run(self, *arguments: str, stdin: str = "") -> str:
        return self._runner.run(self._argv(*arguments), stdin=stdin, timeout=JOB_TIMEOUT)

    def _argv(self, *arguments: str) -> list[str | Path]:
        return [self.instance.tutor, "--root", self.instance.root, *arguments]


def last_json(output: str) -> dict[str, Any]:
    """The last JSON object of an output that has other lines before. Raises ToolFailed."""
    lines = output.splitlines()
    for index in range(len(lines) - 1, -1, -1):
        if lines[index].startswith("{"):
            try:
                data = json.JSONDecoder().raw_decode("\n".join(lines[index:]))[0]
            except ValueError:
                continue
            if isinstance(data, dict):
                return data
    raise ToolFailed("the LMS's command printed no JSON; is the image older than the plugin?")
