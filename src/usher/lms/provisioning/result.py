"""The result of provisioning, without secrets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Item:
    """What happened to one record. what: the record's kind; name: the record's name; outcome:
    created, changed, adopted, removed, moved, kept or unchanged; changes: names of the fields that
    differed. kept: left as it was found, because provisioning did not create it or it may be
    another person's."""

    what: str
    name: str
    outcome: str
    changes: list[str] = field(default_factory=list)


@dataclass
class ProvisioningResult:
    """The changes that provisioning made, or with ``dry_run`` would make. items: one for each
    record. warnings: what a person still has to do for sign-in to work."""

    dry_run: bool = False
    items: list[Item] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add_item(self, what: str, name: str, changes: list[str], *, created: bool = False) -> None:
        """Add an item. changes: names of the fields that differed. created: the record is new."""
        outcome = "created" if created else "changed" if changes else "unchanged"
        self.items.append(Item(what, name, outcome, [] if created else changes))

    def as_dict(self) -> dict[str, Any]:
        changes = sum(item.outcome not in ("unchanged", "kept") for item in self.items)
        return {"changed": changes, **asdict(self)}


def assign(record: Any, values: dict[str, Any]) -> list[str]:
    """Set the attributes of ``record`` that differ from ``values``; return their names."""
    changes = [name for name, value in values.items() if getattr(record, name) != value]
    for name in changes:
        setattr(record, name, values[name])
    return changes
