"""The pages of docs/doctor, from the checks' docstrings; ``make docs`` writes them."""

import inspect
import sys
from importlib.resources import files
from itertools import groupby

from usher.doctor.check import Check, all_checks

_INTRO = "intro.md"


def pages() -> dict[str, str]:
    """File name → text, for each family and the index."""
    checks = {name: kind for name, kind in all_checks().items() if _is_ours(kind)}
    texts = {}
    index = [(files(__package__) / _INTRO).read_text(encoding="utf-8")]
    for family, names in groupby(checks, key=lambda name: name.split("-")[0]):
        kinds = [checks[name] for name in names]
        file_name = f"{family.lower()}.md"
        title = inspect.getdoc(sys.modules[kinds[0].__module__]) or family
        texts[file_name] = _page(title, kinds)
        index.append(f"\n## [{title.splitlines()[0].rstrip('.')}]({file_name})\n")
        index += [f"- {kind.id}: {kind.title()}" for kind in kinds]
    texts["README.md"] = "\n".join(index) + "\n"
    return texts


def _is_ours(kind: type[Check]) -> bool:
    return kind.__module__.startswith("usher.doctor.")


def _page(title: str, kinds: list[type[Check]]) -> str:
    parts = [f"# {title.splitlines()[0].rstrip('.')}\n\n[All checks](README.md)\n"]
    for kind in kinds:
        body = (inspect.getdoc(kind) or "").splitlines()
        parts.append(f'\n<a id="{kind.id.lower()}"></a>\n\n## {kind.id}: {kind.title()}\n')
        parts += [_line(line) for line in body[1:] if line.strip()]
        if kind.depends_on:
            parts.append(f"\nDepends on {', '.join(kind.depends_on)}.")
    return "\n".join(parts) + "\n"


def _line(line: str) -> str:
    word, colon, text = line.partition(":")
    if colon and word in ("Symptom", "Cause", "Fix"):
        return f"- **{word}:**{text}"
    return f"  {line}"
