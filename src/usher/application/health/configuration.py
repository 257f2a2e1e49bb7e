"""The settings of this process, and their fingerprints."""

from hmac import compare_digest

from django.conf import settings

from usher.contract.environment import ALL_KEYS, Env
from usher.contract.fingerprints import configuration_fingerprints, proof_of


def settings_in_use() -> dict[str, str]:
    """Every setting of the integration that has a value, by name."""
    by_key = {key: str(getattr(settings, key, "") or "") for key in ALL_KEYS}
    return {key: value for key, value in by_key.items() if value}


def is_proof(text: str) -> bool:
    """Whether ``text`` proves that its sender has the service worker's token, which doctor reads
    from the ``.env``."""
    expected = proof_of(settings_in_use().get(Env.OPENEDX_SERVICE_WORKER_API_TOKEN, ""))
    return bool(expected) and compare_digest(expected.encode(), text.encode("utf-8", "replace"))


def fingerprints() -> dict[str, str]:
    """Fingerprints of the settings. They show which settings differ from a ``.env``, and don't
    reveal the values."""
    by_key = settings_in_use()
    return configuration_fingerprints(by_key, by_key.get(Env.OPENEDX_SERVICE_WORKER_API_TOKEN, ""))
