"""One Open edX run by Tutor: what it is now, and the commands that change it."""

import json
from pathlib import Path
from typing import Any

from usher.connect.errors import Refused, ToolFailed
from usher.connect.openedx.instance import Instance, refreshed
from usher.connect.process import Runner
from usher.contract.provisioning import Description, DescriptionError

#: Seconds. Migrations on first use, and containers that wait for their database.
JOB_TIMEOUT = 1800.0
#: Seconds. An image is built from source: ten minutes on a good machine, an hour on a small one.
BUILD_TIMEOUT = 3 * 3600.0
#: What an image without Usher answers to ``usher_provision``.
_NOT_IN_IMAGE = ("Unknown command", "No module named 'usher'", "No module named 'usher.lms'")
_MANAGE = ("./manage.py", "lms")


class ImageLacksUsher(ToolFailed):
    """The LMS's image was built without Usher."""


class Platform:
    """Answers are remembered until ``forget``; whoever changes something calls it."""

    def __init__(self, instance: Instance, runner: Runner) -> None:
        self.instance = instance
        self._runner = runner
        self._fresh = True
        self._preview: dict[str, Any] | ToolFailed | None = None

    def forget(self) -> None:
        self._fresh, self._preview = False, None

    @property
    def now(self) -> Instance:
        if not self._fresh:
            self.instance = refreshed(self.instance, self._runner)
            self._fresh = True
        return self.instance

    def tutor(self, *arguments: str, stdin: str = "", timeout: float = JOB_TIMEOUT) -> str:
        """Runs ``tutor --root ROOT …``. Raises ToolFailed."""
        self.forget()
        return self._run(*arguments, stdin=stdin, timeout=timeout)

    def shown(self, *arguments: str) -> str:
        """The same command as a person would type it."""
        return self._runner.shown(["tutor", "--root", str(self.instance.root), *arguments])

    def in_mode(self, *arguments: str, stdin: str = "", timeout: float = JOB_TIMEOUT) -> str:
        """Runs ``tutor --root ROOT local|dev|k8s …``."""
        return self.tutor(self.instance.command, *arguments, stdin=stdin, timeout=timeout)

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
        """What ``usher_provision`` would change. Raises ImageLacksUsher, ToolFailed."""
        if self._preview is None:
            try:
                output = self._run(self.instance.command, "do", "usher-provision", "--dry-run")
                self._preview = last_json(output)
            except ToolFailed as error:
                lacks = any(words in str(error) for words in _NOT_IN_IMAGE)
                self._preview = ImageLacksUsher(str(error)) if lacks else error
        if isinstance(self._preview, ToolFailed):
            raise self._preview
        return self._preview

    def report(self) -> dict[str, Any]:
        """``usher_report`` of the LMS. Raises ToolFailed."""
        return last_json(self._run(self.instance.command, "do", "usher-report"))

    def provision(self) -> None:
        self.in_mode("do", "init", "--limit=usher")

    def remove(self, description: Description, *, purge: bool) -> dict[str, Any]:
        """Takes away what this description made; it goes in by standard input."""
        command = [*_MANAGE, "usher_provision", "--remove", "--file", "-"]
        command += ["--purge"] if purge else []
        stdin = description.to_json()
        if self.instance.command != "k8s":
            return last_json(self.in_mode("run", "lms", *command, stdin=stdin))
        namespace = str(self.instance.look["values"]["K8S_NAMESPACE"])
        pod = ["kubectl", "exec", "-i", "--namespace", namespace, "deploy/lms", "--"]
        output = self._runner.run([*pod, *command], stdin=stdin, timeout=JOB_TIMEOUT)
        return last_json(output)

    def build(self) -> None:
        for image in self.images():
            self.tutor("images", "build", image, timeout=BUILD_TIMEOUT)

    def images(self) -> list[str]:
        return ["openedx-dev"] if self.instance.command == "dev" else ["openedx"]

    def restart(self, *, running: bool) -> None:
        """The LMS reads its settings when it starts, and containers their addresses when made."""
        if self.instance.command == "k8s":
            self.in_mode("start")
        elif running:
            self.in_mode("reboot", "--detach", *self.services())
        else:
            self.in_mode("start", "--detach")

    def services(self) -> list[str]:
        return ["lms"] if self.instance.command == "dev" else ["lms", "lms-worker"]

    def _run(self, *arguments: str, stdin: str = "", timeout: float = JOB_TIMEOUT) -> str:
        command: list[str | Path] = [self.instance.tutor, "--root", self.instance.root, *arguments]
        return self._runner.run(command, stdin=stdin, timeout=timeout)


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
