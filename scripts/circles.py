"""A contract of import-linter: no circle of imports between files, those within functions included.

import-linter's own ``acyclic_siblings`` compares packages, and two packages may well use each other
as long as each file can be read on its own.
"""

from __future__ import annotations

from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class NoCircles(Contract):
    """``modules``: packages in which no file may lead back to itself."""

    type_name = "no_circles"
    modules = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        packages: list[Any] = self.modules  # type: ignore[assignment]
        within = {
            name
            for name in graph.modules
            if any(name == each or name.startswith(f"{each}.") for each in packages)
        }
        imports = {
            name: sorted(within & graph.find_modules_directly_imported_by(name)) for name in within
        }
        circle = _circle(imports)
        return ContractCheck(kept=not circle, metadata={"circle": circle})

    def render_broken_contract(self, check: ContractCheck) -> None:
        output.print_error("A circle of imports:")
        for name in check.metadata["circle"]:
            output.print_error(f"  {name}")


def _circle(imports: dict[str, list[str]]) -> list[str]:
    """The names along one circle, the first of them again at the end; empty where there is none."""
    done: set[str] = set()
    for start in sorted(imports):
        path: list[str] = []
        on_path: set[str] = set()
        steps: list[tuple[str, bool]] = [(start, True)]
        while steps:
            name, is_entered = steps.pop()
            if not is_entered:
                path.pop()
                on_path.discard(name)
                done.add(name)
            elif name in on_path:
                return [*path[path.index(name) :], name]
            elif name not in done:
                path.append(name)
                on_path.add(name)
                steps.append((name, False))
                steps += [(each, True) for each in imports[name]]
    return []
