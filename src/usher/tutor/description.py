"""Requirements of the image and host names of the containers, from Tutor's configuration."""

from collections.abc import Mapping
from typing import Any

from usher.contract.applications import HOST_GATEWAY_NAME
from usher.contract.description import entries_of

#: The file is in the folder of lms.env.yml, which every release mounts in every mode.
FILENAME = "usher.json"


def requirements(config: Mapping[str, Any]) -> list[str]:
    """Requirements that pip installs into the image, quoted for a shell. Raises EntryError."""
    entries_of(config)  # only to raise EntryError for a wrong entry
    usher = [config["USHER_REQUIREMENT"]] if config["USHER_REQUIREMENT"] else []
    return [f"'{requirement}'" for requirement in (*usher, *config["USHER_BACKEND_REQUIREMENTS"])]


def host_aliases(config: Mapping[str, Any]) -> list[str]:
    """Host names that must resolve to this machine in the containers, without duplicates. Raises
    EntryError."""
    entries = entries_of(config)
    names = [HOST_GATEWAY_NAME, *(entry.host_alias for entry in entries)]
    return list(dict.fromkeys(name for name in [*names, *config["USHER_HOST_ALIASES"]] if name))
