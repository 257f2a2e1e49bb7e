"""A contract for import-linter: files must not import each other in a circle, not even within
functions.

import-linter's own ``acyclic_siblings`` compares packages. Two packages may import each other as
long as their files form no circle.
"""

from __future__ import annotations

from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class NoCircles(Contract):
    """A rule for import-linter. modules: packages whose files must not import each other in a
    circle."""

    type_name = "no_circles"
    modules = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        packages: list[Any] = self.modules  # type: ignore[assignment]
        files: set[str] = set()
        for package in packages:
            files |= {
                name for name in graph.modules if name == package or name.startswith(f"{package}.")
            }
        imports = {
            name: sorted(files & graph.find_modules_directly_imported_by(name)) for name in files
        }
        circle = _circle(imports)
        return ContractCheck(kept=not circle, metadata={"circle": circle})

    def render_broken_contract(self, check: ContractCheck) -> None:
        output.print_error("These imports form a circle:")
        for name in check.metadata["circle"]:
            output.print_error(f"  {name}")


def _circle(imports: dict[str, list[str]]) -> list[str]:
    """The names in one circle, with the first one repeated at the end; empty if there is none."""
    visited: set[str] = set()
    for start in sorted(imports):
        path: list[str] = []
        # Steps of a search in depth that are still to do, the next one last.
        steps: list[tuple[str, str]] = [("enter", start)]
        while steps:
            step, name = steps.pop()
            if step == "leave":
                path.pop()
                visited.add(name)
            elif name in path:
                return [*path[path.index(name) :], name]
            elif name not in visited:
                path.append(name)
                steps.append(("leave", name))
                steps += [("enter", imported) for imported in imports[name]]
    return []
