"""The pages of docs/doctor, from the checks' docstrings; ``make docs`` writes them."""

import inspect
import sys
from importlib.resources import files
from itertools import groupby

from usher.doctor.check import Check, all_checks

_INTRO = "intro.md"


def build_pages() -> dict[str, str]:
    """The index and a page for each family of checks: file name → text."""
    checks = {
        name: check_class
        for name, check_class in all_checks().items()
        if _is_own_check(check_class)
    }
    texts = {}
    index = [(files(__package__) / _INTRO).read_text(encoding="utf-8")]
    for family, names in groupby(checks, key=lambda name: name.split("-")[0]):
        check_classes = [checks[name] for name in names]
        file_name = f"{family.lower()}.md"
        title = inspect.getdoc(sys.modules[check_classes[0].__module__]) or family
        texts[file_name] = _family_page(title, check_classes)
        index.append(f"\n## [{title.splitlines()[0].rstrip('.')}]({file_name})\n")
        index += [f"- {check_class.id}: {check_class.title()}" for check_class in check_classes]
    texts["README.md"] = "\n".join(index) + "\n"
    return texts


def _is_own_check(check_class: type[Check]) -> bool:
    return check_class.__module__.startswith("usher.doctor.")


def _family_page(title: str, check_classes: list[type[Check]]) -> str:
    """The page of a family in Markdown: each check with its documentation. title: the docstring of
    the family's module."""
    parts = [f"# {title.splitlines()[0].rstrip('.')}\n\n[All checks](README.md)\n"]
    for check_class in check_classes:
        body = (inspect.getdoc(check_class) or "").splitlines()
        anchor = f'<a id="{check_class.id.lower()}"></a>'
        parts.append(f"\n{anchor}\n\n## {check_class.id}: {check_class.title()}\n")
        parts += [_list_item(line) for line in body[1:] if line.strip()]
        if check_class.depends_on:
            parts.append(f"\nDepends on {', '.join(check_class.depends_on)}.")
    return "\n".join(parts) + "\n"


def _list_item(line: str) -> str:
    """A line of a check's docstring in Markdown. Symptom, cause and fix each begin an item; any
    other line continues the item before it."""
    word, colon, text = line.partition(":")
    if colon and word in ("Symptom", "Cause", "Fix"):
        return f"- **{word}:**{text}"
    return f"  {line}"
