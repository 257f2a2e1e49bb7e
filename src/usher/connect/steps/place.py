"""Where the connected applications are named: Tutor's root, or the folder of an embedded LMS."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from usher.connect.before import RestartMark
from usher.connect.errors import StepFailed
from usher.connect.openedx import configuration
from usher.connect.openedx.lms import Lms
from usher.connect.plan import Step
from usher.contract.provisioning import Description


class PlaceSteps(ABC):
    """values: what config.yml must hold; asked anew each time, as it depends on what it holds."""

    def __init__(self, lms: Lms, values: Callable[[], dict[str, Any]]) -> None:
        self.lms = lms
        self.mark = RestartMark(lms.place)
        self._values = values

    @abstractmethod
    def steps(self, names: str) -> list[Step]:
        """names: of the applications, for people."""

    @abstractmethod
    def is_rendered(self) -> bool:
        """Whether everything that follows from config.yml was rendered."""

    def description(self) -> Description | None:
        """What the LMS must have; None before it is configured and rendered."""
        return self.lms.description() if self.is_configured() and self.is_rendered() else None

    def certain_description(self) -> Description:
        """For the steps behind. Raises StepFailed."""
        description = self.description()
        if description is None:
            raise StepFailed("render", "the description of the LMS's records was not rendered")
        return description

    def is_configured(self) -> bool:
        return configuration.holds(self.lms.config_file, self._values())

    def configure(self) -> str:
        configuration.write(self.lms.config_file, self._values())
        self.lms.forget()
        return "written"
