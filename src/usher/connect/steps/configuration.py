"""The steps that change Tutor's root or the folder of an embedded LMS."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from usher.connect.errors import StepFailed
from usher.connect.openedx import configuration
from usher.connect.openedx.lms import Lms
from usher.connect.plan import Step
from usher.connect.saved_state import RestartMark
from usher.contract.provisioning import Description


class ConfigurationSteps(ABC):
    """The steps that configure an LMS and render its files.

    values: returns the values that config.yml must have. They depend on the file's content, so the
    function is called each time.
    """

    def __init__(self, lms: Lms, values: Callable[[], dict[str, Any]]) -> None:
        self.lms = lms
        self.restart_mark = RestartMark(lms.folder)
        self._values = values

    @abstractmethod
    def steps(self, names: str) -> list[Step]:
        """Returns the steps. names: the applications' names, as shown to people."""

    @abstractmethod
    def is_rendered(self) -> bool:
        """Whether all files derived from config.yml are up to date."""

    def description(self) -> Description | None:
        """Returns the description of the LMS's records; None before all is configured and
        rendered."""
        return self.lms.description() if self.is_configured() and self.is_rendered() else None

    def planned_description(self) -> Description | None:
        """Returns the description that the plan's steps will render; None if its secrets don't
        exist yet."""
        present = configuration.read(self.lms.config_file)
        if not all(present.get(key) for key in configuration.GENERATED):
            return None
        return self.lms.description_after(self._values())

    def description_or_error(self) -> Description:
        """Returns what ``description`` returns. Raises StepFailed if that is None."""
        description = self.description()
        if description is None:
            raise StepFailed("render", "the description of the LMS's records was not rendered")
        return description

    def is_configured(self) -> bool:
        return configuration.has_values(self.lms.config_file, self._values())

    def configure(self) -> str:
        configuration.write(self.lms.config_file, self._values())
        self.lms.clear_cache()
        return "written"
