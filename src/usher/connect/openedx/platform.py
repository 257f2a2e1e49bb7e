"""One Open edX run by Tutor: its state, and the commands that change it."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from usher.connect.errors import Refused, ToolFailed
from usher.connect.openedx import configuration, leftovers
from usher.connect.openedx.instance import Instance, lms_runs, refresh
from usher.connect.process import Runner
from usher.contract.provisioning import Description, DescriptionError

#: Seconds that a job may take: the first runs migrations, and containers wait for their database.
JOB_TIMEOUT = 1800.0
#: Errors of ``usher_provision`` in an image without Usher.
_NOT_IN_IMAGE = ("Unknown command", "No module named 'usher'", "No module named 'usher.lms'")
_MANAGE = ("./manage.py", "lms")
#: Tutor's line with the name of a job in a cluster. Tutor doesn't print the output of such a job.
_JOB = re.compile(r"\bJob (\S+) (?:is running|successful|failed)")
#: Seconds for the pods of a deployment to be replaced.
ROLLOUT_SECONDS = 600


#: Path of the rendered description in the LMS's container.
_DESCRIPTION = '"$(dirname "$LMS_CFG")/usher.json"'
#: A script for the shell in the LMS's container.
_PREVIEW = (*_MANAGE, "usher_provision", "--dry-run", "--file", _DESCRIPTION)


class ImageLacksUsher(ToolFailed):
    """The LMS's image was built without Usher."""


class NotRunning(ToolFailed):
    """The LMS isn't running. Examining it with a job would start its databases."""


class Platform:
    """An LMS run by Tutor, with cached results. Code that changes Tutor's root must call
    ``clear_cache``."""

    def __init__(self, instance: Instance, runner: Runner) -> None:
        self.instance = instance
        self._runner = runner
        #: Whether ``instance`` has the present state of its root.
        self._is_inspected = True
        #: The cached report of ``preview``, or its error; None if nothing is cached.
        self._preview: dict[str, Any] | ToolFailed | None = None
        #: The cached result of ``is_applied``.
        self._is_applied: bool | None = None

    def clear_cache(self) -> None:
        """Clears the cache. Call it after changes of configuration, plugins or rendered files."""
        self._is_inspected = False
        self._clear_results_of_lms()

    def _clear_results_of_lms(self) -> None:
        self._preview, self._is_applied = None, None

    @property
    def folder(self) -> Path:
        return self.instance.root

    @property
    def config_file(self) -> Path:
        return self.instance.config_file

    @property
    def lms_url(self) -> str:
        return self.instance.lms_url

    @property
    def is_plugin_enabled(self) -> bool:
        return self.current_instance.is_plugin_enabled

    @property
    def logs_command(self) -> str:
        return f"tutor {self.instance.command} logs --tail=100 lms"

    def application_entries(self) -> list[dict[str, Any]]:
        return configuration.application_entries(self.config_file, self.current_instance.report)

    def leftovers(self) -> Iterable[str]:
        return leftovers.find_edits(self.current_instance.root, self.current_instance.report)

    def connection(self) -> dict[str, str]:
        """The fields of ``Connection`` that name this LMS. The field ``lms`` is ``tutor`` by
        default."""
        instance = self.instance
        return {
            "tutor": str(instance.tutor),
            "tutor_root": str(instance.root),
            "mode": instance.mode,
        }

    def render_command(self) -> str:
        return self.as_typed("config", "save")

    @property
    def current_instance(self) -> Instance:
        """The instance with the present state of its root. The root is inspected again if
        ``clear_cache`` was called."""
        if not self._is_inspected:
            self.instance = refresh(self.instance, self._runner)
            self._is_inspected = True
        return self.instance

    def run_tutor(self, *arguments: str) -> str:
        """Runs ``tutor --root ROOT …``, which may render files, and clears the cache. Raises
        ToolFailed."""
        self.clear_cache()
        return self._run(*arguments)

    def as_typed(self, *arguments: str) -> str:
        """Returns the command of ``tutor`` as the operator types it in a shell."""
        return self._runner.as_typed(["tutor", "--root", str(self.instance.root), *arguments])

    def run_in_mode(self, *arguments: str, stdin: str = "") -> str:
        """Runs ``tutor --root ROOT local|dev|k8s …``, which renders nothing, and clears the cached
        results of the running LMS. Raises ToolFailed."""
        self._clear_results_of_lms()
        return self._run(self.instance.command, *arguments, stdin=stdin)

    def description(self) -> Description | None:
        """Returns the rendered description; None before it was rendered. Raises Refused."""
        path = self.instance.description_file
        if not path.is_file() or not path.read_text().strip():
            return None
        try:
            return Description.from_json(path.read_text())
        except DescriptionError as error:
            raise Refused(f"{path}: {error}; render it again: tutor config save") from error

    def description_after(self, values: dict[str, Any]) -> Description:
        return configuration.description_of(
            self.config_file, self.current_instance.report["usher"] | values
        )

    def preview(self) -> dict[str, Any]:
        """Returns the report of ``usher_provision --dry-run`` in the running LMS.

        A job is not used, because it would start the databases and build a missing image.
        Raises ImageLacksUsher, NotRunning, ToolFailed.
        """
        if self._preview is None:
            self._preview = self._parse_preview(self._preview_in_running_lms)
        if isinstance(self._preview, ToolFailed):
            raise self._preview
        return self._preview

    def has_usher_in_image(self) -> bool:
        """Whether Usher is in the image. A job examines the image, because a running container may
        be older than the image. If the job fails for another reason than a missing Usher, Usher is
        in the image."""
        if not self._has_image():
            return False
        return not isinstance(self._parse_preview(self._preview_by_job), ImageLacksUsher)

    def _parse_preview(self, run: Callable[[], str]) -> dict[str, Any] | ToolFailed:
        """Returns the report that ``run`` returns as text, or the error that it raises."""
        try:
            return provision_report(run())
        except ToolFailed as error:
            lacks_usher = any(message in str(error) for message in _NOT_IN_IMAGE)
            return ImageLacksUsher(str(error)) if lacks_usher else error

    def _preview_by_job(self) -> str:
        return self._run_job("usher-provision", "--dry-run")

    def _preview_in_running_lms(self) -> str:
        """Returns the output of ``usher_provision --dry-run``. Raises NotRunning, ToolFailed."""
        script = " ".join(_PREVIEW)
        if self.in_cluster:
            return self._kubectl("exec", "-i", "deploy/lms", "--", "sh", "-e", "-c", script)
        if not lms_runs(self.instance, self._runner):
            raise NotRunning("the LMS isn't running, so its records can't be examined")
        return self._run(self.instance.command, "exec", "-T", "lms", "sh", "-e", "-c", script)

    def _has_image(self) -> bool:
        """Whether the image is on this machine. Otherwise a job would build or pull it without
        confirmation."""
        if self.in_cluster:
            return True  # the cluster pulls its images itself
        key = "DOCKER_IMAGE_OPENEDX" + ("_DEV" if self.instance.command == "dev" else "")
        try:
            self._runner.run(
                ["docker", "image", "inspect", str(self.instance.report["values"][key])]
            )
        except ToolFailed:
            return False
        return True

    def provision(self) -> dict[str, Any]:
        """Runs ``usher_provision`` and returns its report. Raises ToolFailed."""
        self._clear_results_of_lms()
        return provision_report(self._run_job("init", "--limit=usher"))

    def remove(self, description: Description, *, purge: bool) -> dict[str, Any]:
        """Removes the records that were created from this description, and returns the command's
        report. The description is passed through standard input, because it has secrets."""
        command = [*_MANAGE, "usher_provision", "--remove", "--file", "-"]
        command += ["--purge"] if purge else []
        stdin = description.to_json()
        if self.in_cluster:
            return provision_report(
                self._kubectl("exec", "-i", "deploy/lms", "--", *command, stdin=stdin)
            )
        return provision_report(self.run_in_mode("run", "lms", *command, stdin=stdin))

    def build(self) -> None:
        self._clear_results_of_lms()
        for image in self.images():
            self._runner.watch(self._argv("images", "build", image))

    def images(self) -> list[str]:
        """Returns the names of the LMS's images for ``tutor images build``."""
        return ["openedx-dev"] if self.instance.command == "dev" else ["openedx"]

    def restart(self, *, running: bool) -> None:
        """Restarts the LMS, so that it reads its settings; in a cluster, waits for the rollout."""
        if self.in_cluster:
            self.run_in_mode("start")
            for service in self.services():
                timeout = f"--timeout={ROLLOUT_SECONDS}s"
                self._kubectl("rollout", "status", f"deployment/{service}", timeout)
        elif running:
            self.run_in_mode("reboot", "--detach", *self.services())
        else:
            self.run_in_mode("start", "--detach")

    @property
    def in_cluster(self) -> bool:
        return self.instance.command == "k8s"

    def is_applied(self) -> bool:
        """Whether the rendered configuration was applied to the cluster. Raises ToolFailed.

        The name of each ConfigMap ends in a hash of its content, so the names are compared.
        """
        if self._is_applied is None:
            rendered = self._kubectl("kustomize", str(self.instance.root / "env"))
            manifests = [manifest for manifest in yaml.safe_load_all(rendered) if manifest]
            names = [
                manifest["metadata"]["name"]
                for manifest in manifests
                if manifest["kind"] == "ConfigMap"
            ]
            try:
                self._kubectl("get", "configmaps", *names)
            except ToolFailed:
                self._is_applied = False
            else:
                self._is_applied = True
        return self._is_applied

    def services(self) -> list[str]:
        """Returns the services that read the LMS's settings; dev mode has no ``lms-worker``."""
        return ["lms"] if self.instance.command == "dev" else ["lms", "lms-worker"]

    def _run_job(self, *arguments: str) -> str:
        """Runs ``tutor local|dev|k8s do ARGUMENTS`` and returns its output; in a cluster, the logs
        of its jobs. Raises ToolFailed."""
        try:
            output = self._run(self.instance.command, "do", *arguments)
        except ToolFailed as error:
            if not self.in_cluster:
                raise
            try:
                logs = self._logs_of_jobs(str(error))
            except ToolFailed:
                logs = ""  # then only the first error is reported
            raise ToolFailed(f"{error}\n{logs}".strip(), error.exit_code) from error
        return self._logs_of_jobs(output) if self.in_cluster else output

    def _logs_of_jobs(self, output: str) -> str:
        """Returns the logs of the jobs that Tutor's ``output`` names. Raises ToolFailed."""
        names = dict.fromkeys(_JOB.findall(output))
        return "\n".join(self._kubectl("logs", f"job/{name}") for name in names)

    def _kubectl(self, *arguments: str, stdin: str = "") -> str:
        namespace = str(self.instance.report["values"]["K8S_NAMESPACE"])
        command = ["kubectl", "--namespace", namespace, *arguments]
        return self._runner.run(command, stdin=stdin, timeout=JOB_TIMEOUT)

    def _run(self, *arguments: str, stdin: str = "") -> str:
        return self._runner.run(self._argv(*arguments), stdin=stdin, timeout=JOB_TIMEOUT)

    def _argv(self, *arguments: str) -> list[str | Path]:
        return [self.instance.tutor, "--root", self.instance.root, *arguments]


def provision_report(output: str) -> dict[str, Any]:
    """Returns the report of ``usher_provision``: the last JSON object of its output, which may have
    other lines before it. Raises ToolFailed if there is none.
    """
    lines = output.splitlines()
    for index in range(len(lines) - 1, -1, -1):
        if lines[index].startswith("{"):
            try:
                data = json.JSONDecoder().raw_decode("\n".join(lines[index:]))[0]
            except ValueError:
                continue
            if isinstance(data, dict):
                return data
    raise ToolFailed("usher_provision printed no JSON; is the LMS's image older than the plugin?")
