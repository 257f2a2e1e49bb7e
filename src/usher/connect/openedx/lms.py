"""What ``connect`` needs of an LMS, whatever runs it: Tutor, or the embedded LMS."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from usher.contract.provisioning import Description


class Lms(Protocol):
    """Answers are remembered until something changes; who changes the place calls ``forget``."""

    @property
    def place(self) -> Path:
        """Tutor's root, or the folder of an embedded LMS."""

    @property
    def config_file(self) -> Path:
        """Holds the ``USHER_*`` values."""

    @property
    def lms_url(self) -> str:
        """For browsers."""

    @property
    def in_cluster(self) -> bool: ...

    @property
    def enabled(self) -> bool:
        """Whether the plugin is at work there."""

    @property
    def logs_command(self) -> str:
        """As a person types it."""

    def entries(self) -> list[dict[str, Any]]:
        """The applications connected now, as in USHER_APPLICATIONS."""

    def leftovers(self) -> Iterable[str]:
        """Of the manual procedure: a line for each."""

    def connection(self) -> dict[str, str]:
        """What ``usher.contract.connections.Connection`` keeps of this LMS."""

    def forget(self) -> None: ...

    def description(self) -> Description | None:
        """What the LMS must have, as rendered last; None before. Raises Refused."""

    def render_command(self) -> str:
        """What renders the description, as a person types it."""

    def preview(self) -> dict[str, Any]:
        """What ``usher_provision`` would change. Raises ToolFailed."""

    def provision(self) -> dict[str, Any]:
        """What ``usher_provision`` did. Raises ToolFailed."""

    def remove(self, description: Description, *, purge: bool) -> dict[str, Any]:
        """Takes away what this description made. Raises ToolFailed."""

    def restart(self, *, running: bool) -> None:
        """The LMS reads its settings when it starts. Raises ToolFailed."""
