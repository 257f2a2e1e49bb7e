"""What Tutor's image and containers need, made from Tutor's configuration."""

from collections.abc import Mapping
from typing import Any

from usher.contract.applications import HOST_GATEWAY_NAME
from usher.contract.description import entries_of

#: Beside lms.env.yml, where every release mounts Tutor's configuration in every mode.
FILENAME = "usher.json"


def requirements(config: Mapping[str, Any]) -> list[str]:
    """What pip installs into the image, each as a word for a shell: none has a quote in it."""
    entries_of(config)
    own = [config["USHER_REQUIREMENT"]] if config["USHER_REQUIREMENT"] else []
    return [f"'{one}'" for one in (*own, *config["USHER_BACKEND_REQUIREMENTS"])]


def host_aliases(config: Mapping[str, Any]) -> list[str]:
    """Names that must lead from the containers to the machine that runs them, without doubles."""
    entries = entries_of(config)
    names = [HOST_GATEWAY_NAME, *(entry.host_alias for entry in entries)]
    return list(dict.fromkeys(name for name in [*names, *config["USHER_HOST_ALIASES"]] if name))
