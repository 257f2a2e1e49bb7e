"""The interface that ``connect`` uses for an LMS, run by Tutor or embedded."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from usher.contract.provisioning import Description


class Lms(Protocol):
    """An LMS with cached results. Code that changes files in ``folder`` must call
    ``clear_cache``."""

    @property
    def folder(self) -> Path:
        """Tutor's root, or the folder of an embedded LMS."""

    @property
    def config_file(self) -> Path:
        """The file with the ``USHER_*`` values."""

    @property
    def lms_url(self) -> str:
        """The LMS's address for browsers."""

    @property
    def in_cluster(self) -> bool:
        """Whether Tutor runs the LMS in Kubernetes."""

    @property
    def is_plugin_enabled(self) -> bool:
        """Whether the plugin is enabled."""

    @property
    def logs_command(self) -> str:
        """The command that shows the LMS's log, as the operator types it in a shell."""

    def application_entries(self) -> list[dict[str, Any]]:
        """Returns the connected applications, as in USHER_APPLICATIONS."""

    def leftovers(self) -> Iterable[str]:
        """Returns a line for each edit that the manual procedure left."""

    def connection(self) -> dict[str, str]:
        """Returns the fields of this LMS for ``usher.contract.connections.Connection``."""

    def clear_cache(self) -> None:
        """Clears the cached results."""

    def description(self) -> Description | None:
        """Returns the last rendered description of the LMS's records, or None. Raises Refused."""

    def description_after(self, values: dict[str, Any]) -> Description:
        """Returns the description that will be rendered if config.yml gets these values.

        Raises Refused.
        """

    def render_command(self) -> str:
        """Returns the command that renders the description, as the operator types it in a shell."""

    def preview(self) -> dict[str, Any]:
        """Returns the report of ``usher_provision --dry-run``. Raises ToolFailed."""

    def provision(self) -> dict[str, Any]:
        """Runs ``usher_provision`` and returns its report. Raises ToolFailed."""

    def remove(self, description: Description, *, purge: bool) -> dict[str, Any]:
        """Removes the records that were created from this description. purge: also removes records
        that are otherwise only disabled. Raises ToolFailed."""

    def restart(self, *, running: bool) -> None:
        """Restarts the LMS, so that it reads its settings; starts it if it doesn't run. running:
        whether it runs. Raises ToolFailed."""
