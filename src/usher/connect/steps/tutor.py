"""The steps in Tutor: install Usher, configure and enable the plugin, render."""

from collections.abc import Callable
from typing import Any

from usher.connect.openedx import configuration, package
from usher.connect.openedx.platform import Platform
from usher.connect.plan import Step
from usher.connect.process import Runner
from usher.connect.steps.configuration import ConfigurationSteps


class TutorSteps(ConfigurationSteps):
    """The steps that configure and render an LMS run by Tutor. runner: runs pip."""

    def __init__(
        self, platform: Platform, values: Callable[[], dict[str, Any]], runner: Runner
    ) -> None:
        super().__init__(platform, values)
        self.platform = platform
        self._runner = runner

    def steps(self, names: str) -> list[Step]:
        """Returns the steps. names: the applications' names, as shown to people."""
        instance = self.platform.instance
        return [
            Step(
                id="tutor-package",
                where=str(instance.python),
                what="install openedx-usher into Tutor's environment",
                reason="Tutor loads plugins from its own Python only",
                is_done=lambda: bool(self.platform.current_instance.report["installed"]),
                apply=self._install,
            ),
            Step(
                id="tutor-config",
                where=str(instance.config_file),
                what=f"name {names} in {configuration.APPLICATIONS}",
                reason=(
                    "the plugin derives ids, secrets and settings from this list; tutor config "
                    "save keeps it"
                ),
                is_done=self.is_configured,
                apply=self.configure,
            ),
            Step(
                id="tutor-plugin",
                where=str(instance.root),
                what="enable the plugin usher",
                reason="its patches replace edits of generated files",
                is_done=lambda: self.platform.current_instance.is_plugin_enabled,
                apply=self._enable,
            ),
            Step(
                id="tutor-render",
                where=str(instance.root / "env"),
                what="render Tutor's environment",
                reason=(
                    "it holds the LMS's settings, its Dockerfile and a description of its records"
                ),
                is_done=self.is_rendered,
                apply=self._render,
            ),
        ]

    def is_rendered(self) -> bool:
        instance = self.platform.current_instance
        return self.is_configured() and instance.is_plugin_enabled and not instance.report["stale"]

    def _install(self) -> str:
        package.install(self.platform.instance.python, self._runner)
        self.platform.clear_cache()
        return "installed"

    def _enable(self) -> str:
        # Tutor renders when a plugin is enabled.
        self.restart_mark.set()
        self.platform.run_tutor("plugins", "enable", "usher")
        return "enabled"

    def _render(self) -> str:
        self.restart_mark.set()
        self.platform.run_tutor("config", "save")
        return "rendered"
