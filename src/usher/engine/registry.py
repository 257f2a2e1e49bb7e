"""The kinds of objects and the other system, as a project's ``AppConfig.ready()`` names them."""

from __future__ import annotations

from collections.abc import Iterable

from django.core.exceptions import ImproperlyConfigured
from django.db.models.signals import post_delete

from usher.engine import work
from usher.engine.kinds import Kind
from usher.engine.models import Reconciled
from usher.engine.other_system import OtherSystem

_kinds: dict[str, Kind] = {}
_systems: list[OtherSystem] = []


def register(kinds: Iterable[Kind], system: OtherSystem) -> None:
    """kinds: in the order in which they are worked on, and their rows locked: first those that
    later kinds depend on. Replaces what was registered before."""
    _kinds.clear()
    _kinds.update((kind.name, kind) for kind in kinds)
    _systems[:] = [system]
    for each in _kinds.values():
        each.model.work_kind = each.name
        post_delete.connect(_delete_work, sender=each.model, dispatch_uid=f"work of {each.name}")


def _delete_work(sender: type[Reconciled], instance: Reconciled, **_: object) -> None:
    """Of a row that was deleted."""
    work.delete(sender.work_kind, [instance.pk])


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
