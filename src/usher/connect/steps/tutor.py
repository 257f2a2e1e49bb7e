"""Tutor: Usher in its environment, in its configuration, enabled, rendered."""

from collections.abc import Callable
from typing import Any

from usher.connect.before import RestartMark
from usher.connect.errors import StepFailed
from usher.connect.openedx import configuration, package
from usher.connect.openedx.platform import Platform
from usher.connect.plan import Step
from usher.connect.process import Runner
from usher.contract.provisioning import Description


class TutorSteps:
    """values: what config.yml must hold; computed each time, as it depends on its content."""

    def __init__(
        self, platform: Platform, values: Callable[[], dict[str, Any]], runner: Runner
    ) -> None:
        self.platform = platform
        self.mark = RestartMark(platform.instance.root)
        self._values = values
        self._runner = runner

    def steps(self, names: str) -> list[Step]:
        """names: of the applications, for people."""
        instance = self.platform.instance
        return [
            Step(
                "tutor-package",
                str(instance.python),
                "install openedx-usher into Tutor's environment",
                "Tutor finds plugins in its own Python only",
                lambda: bool(self.platform.now.look["installed"]),
                self._install,
            ),
            Step(
                "tutor-config",
                str(instance.config_file),
                f"name {names} in {configuration.APPLICATIONS}",
                "the plugin derives everything else from it; survives 'tutor config save'",
                self._is_configured,
                self._configure,
            ),
            Step(
                "tutor-plugin",
                str(instance.root),
                "enable the plugin usher",
                "its patches replace edits of generated files",
                lambda: self.platform.now.enabled,
                self._enable,
            ),
            Step(
                "tutor-render",
                str(instance.root / "env"),
                "render Tutor's environment",
                "settings, image and the description of what the LMS must have",
                self.is_rendered,
                self._render,
            ),
        ]

    def is_rendered(self) -> bool:
        return self.platform.now.enabled and not self.platform.now.look["stale"]

    def description(self) -> Description | None:
        """What the LMS must have; None before it is configured and rendered."""
        return self.platform.description() if self._is_configured() and self.is_rendered() else None

    def certain_description(self) -> Description:
        """For the steps behind. Raises StepFailed."""
        description = self.description()
        if description is None:
            raise StepFailed("tutor-render", "the plugin's description was not rendered")
        return description

    def _install(self) -> str:
        package.install(self.platform.instance.python, self._runner)
        self.platform.forget()
        return "installed"

    def _is_configured(self) -> bool:
        return configuration.holds(self.platform.instance.config_file, self._values())

    def _configure(self) -> str:
        configuration.write(self.platform.instance.config_file, self._values())
        self.platform.forget()
        return "written"

    def _enable(self) -> str:
        # Tutor renders when a plugin is enabled.
        self.mark.set()
        self.platform.tutor("plugins", "enable", "usher")
        return "enabled"

    def _render(self) -> str:
        self.mark.set()
        self.platform.tutor("config", "save")
        return "rendered"
