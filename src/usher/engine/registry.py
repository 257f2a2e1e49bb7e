"""The kinds and the other system that a project registers in its ``AppConfig.ready()``."""

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
    """Registers the kinds and the other system, and removes those that were registered before.

    kinds: in the order in which their rows are processed and locked. A kind comes after the kinds
    that it depends on.
    """
    _kinds.clear()
    _kinds.update((kind.name, kind) for kind in kinds)
    _systems[:] = [system]
    for registered in _kinds.values():
        registered.model.work_kind = registered.name
        post_delete.connect(
            _delete_work, sender=registered.model, dispatch_uid=f"work of {registered.name}"
        )


def _delete_work(sender: type[Reconciled], instance: Reconciled, **_: object) -> None:
    """Deletes the work of a row that was deleted."""
    work.delete(sender.work_kind, [instance.pk])


def kind(name: str) -> Kind:
    """The kind of that name. Raises KeyError if none is registered."""
    return _kinds[name]


def all_kinds() -> dict[str, Kind]:
    """Name → kind, in the order of ``register``."""
    return dict(_kinds)


def kind_names() -> tuple[str, ...]:
    """The names of all kinds, in the order of ``register``."""
    return tuple(_kinds)


def other_system() -> OtherSystem:
    """The registered system. Raises ImproperlyConfigured when there is none."""
    if not _systems:
        raise ImproperlyConfigured("Nothing is registered with usher.engine.registry.")
    return _systems[0]
