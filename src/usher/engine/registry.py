"""The kinds of objects and the other system, as a project's ``AppConfig.ready()`` names them."""

from __future__ import annotations

from collections.abc import Iterable

from django.core.exceptions import ImproperlyConfigured

from usher.engine.kinds import Kind
from usher.engine.other_system import OtherSystem

_kinds: dict[str, Kind] = {}
_systems: list[OtherSystem] = []


def register(kinds: Iterable[Kind], system: OtherSystem) -> None:
    """kinds: in the order in which they are worked on, and their rows locked: first those that
    later kinds depend on. Replaces what was registered before."""
    _kinds.clear()
    _kinds.update((kind.name, kind) for kind in kinds)
    _systems[:] = [system]


def kind(name: str) -> Kind:
    """Raises KeyError for a name that isn't registered."""
    return _kinds[name]


def all_kinds() -> dict[str, Kind]:
    """Name → kind, in their order."""
    return dict(_kinds)


def names() -> tuple[str, ...]:
    """Of all kinds, in their order."""
    return tuple(_kinds)


def other_system() -> OtherSystem:
    if not _systems:
        raise ImproperlyConfigured("Nothing is registered with usher.engine.registry.")
    return _systems[0]
