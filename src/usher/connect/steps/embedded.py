"""An embedded LMS: its folder, its configuration, the process that serves it."""

from collections.abc import Callable
from typing import Any

from usher.connect import checks
from usher.connect.application.target import Addresses
from usher.connect.openedx import configuration
from usher.connect.openedx.embedded import EmbeddedLms
from usher.connect.plan import Step
from usher.connect.steps.configuration import ConfigurationSteps
from usher.connect.steps.lms import LmsSteps


class EmbeddedSteps(ConfigurationSteps):
    """The steps that create an embedded LMS, configure it and write its settings."""

    def __init__(self, embedded: EmbeddedLms, values: Callable[[], dict[str, Any]]) -> None:
        super().__init__(embedded, values)
        self._embedded = embedded

    def steps(self, names: str) -> list[Step]:
        embedded = self._embedded
        return [
            Step(
                id="lms-folder",
                where=str(embedded.folder),
                what="create an embedded LMS: its database and two courses",
                reason="it runs on this machine, without Tutor and containers",
                is_done=lambda: embedded.is_current,
                apply=self._make,
            ),
            Step(
                id="lms-config",
                where=str(embedded.config_file),
                what=f"name {names} in {configuration.APPLICATIONS}",
                reason="ids, secrets and the LMS's settings are derived from this list; mode 0600",
                is_done=self.is_configured,
                apply=self.configure,
                file=embedded.config_file,
            ),
            Step(
                id="lms-render",
                where=str(embedded.folder),
                what=f"write lms.env.yml and {embedded.description_file.name}",
                reason="they hold the LMS's settings and a description of its records; mode 0600",
                is_done=self.is_rendered,
                apply=self._render,
            ),
        ]

    def is_rendered(self) -> bool:
        return self.is_configured() and self._embedded.is_rendered()

    def _make(self) -> str:
        self.restart_mark.set()
        self._embedded.make()
        return "created"

    def _render(self) -> str:
        self.restart_mark.set()
        self._embedded.render()
        return "written"


class EmbeddedLmsSteps(LmsSteps):
    """The LMS's steps. Connect starts the LMS, which keeps running after connect has ended."""

    def __init__(
        self,
        embedded: EmbeddedLms,
        configuration_steps: EmbeddedSteps,
        names: list[str],
        addresses: Addresses,
    ) -> None:
        super().__init__(configuration_steps, addresses, names, running=embedded.server.is_running)
        self._embedded = embedded

    def restart_step(self) -> Step:
        embedded = self._embedded
        return Step(
            id="restart",
            where=embedded.lms_url,
            what=f"start the embedded LMS on {embedded.server.host}:{embedded.server.port}",
            reason="the LMS reads settings when it starts; it runs in the background until usher "
            "disconnect",
            is_done=lambda: embedded.server.is_running and self._is_in_force(),
            apply=self._restart,
            trust_apply=True,
        )

    def _restart(self) -> str:
        self._embedded.restart(running=True)
        checks.wait_for_lms(self._addresses, meanwhile=self._embedded.server.check)
        self._configuration.restart_mark.clear()
        return f"up; its log is {self._embedded.server.log}"
