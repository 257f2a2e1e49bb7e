"""All adapters, and the check that an application has the tables of its adapter."""

from __future__ import annotations

from usher.sidecar.adapters.adapter import Adapter
from usher.sidecar.adapters.mitxonline import MITXONLINE
from usher.sidecar.adapters.mitxpro import MITXPRO
from usher.sidecar.errors import NotAsKnown, SidecarError
from usher.sidecar.process import Agent

ADAPTERS = {adapter.name: adapter for adapter in (MITXONLINE, MITXPRO)}


def adapter_of(edition: str) -> Adapter:
    """Returns the adapter. Raises SidecarError for an application whose tables aren't known."""
    if edition not in ADAPTERS:
        titles = " and ".join(adapter.title for adapter in ADAPTERS.values())
        raise SidecarError(
            f"Usher knows the tables of {titles} only. Any other Django project can use Usher's "
            "own apps: call defaults.apply(globals()) of usher.application in its settings and run "
            "manage.py reconcile."
        )
    return ADAPTERS[edition]


def find_missing(agent: Agent, adapter: Adapter) -> list[str]:
    """Returns the models, columns and functions that the adapter needs and the application does not
    have."""
    request = adapter.check_request()
    return list(agent.ask(request.pop("action"), **request)["missing"])


def check(agent: Agent, adapter: Adapter) -> None:
    """Raises NotAsKnown if the application's release lacks anything that the adapter needs."""
    if names := find_missing(agent, adapter):
        raise NotAsKnown(adapter.title, names)
