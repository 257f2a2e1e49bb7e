"""The settings that this very process runs with, and their fingerprints."""

from django.conf import settings

from usher.contract.environment import ALL_KEYS, Env
from usher.contract.fingerprints import configuration_fingerprints


def values() -> dict[str, str]:
    """Every setting of the integration that has a value, by name."""
    found = {key: str(getattr(settings, key, "") or "") for key in ALL_KEYS}
    return {key: value for key, value in found.items() if value}


def fingerprints() -> dict[str, str]:
    """Tells who has the same ``.env``, and nobody else, which settings differ from it (ENV-3)."""
    found = values()
    return configuration_fingerprints(found, found.get(Env.OPENEDX_SERVICE_WORKER_API_TOKEN, ""))
