"""What people read first is in the field's own terms: see the glossary."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Word → what to write.
INSTEAD = {
    r"roads?": "public API, batch API",
    r"rooms?": "package",
    r"brings?|brought": "send, create, update, restore",
    r"lays|laid": "set, write",
    r"whoever": "the person, the user",
    r"unjam|woken": "retry, make due",
    r"parked": "refused",
    r"both sides|either side|this side|that side": "the application and the LMS",
    r"P[1-9][0-9]?": "the step itself",
}
SOURCES = [
    path
    for path in sorted((ROOT / "src/usher").rglob("*.py"))
    if "migrations" not in path.parts and path.parts[-2] != "checks"
]
#: Identifiers of doctor's checks and of steps of a manual procedure.
CODE = re.compile(
    r"\((?:[NP]\d{1,2}|(?:ACC|APP|CRS|ENR|ENV|LMS|NET|OAU|OPS|OUT|PRV|SVC|TUT)-\d+)\)"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_words_of_our_own_are_not_in_the_documentation(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`|\]\([^)]*\)", "", page.read_text(), flags=re.DOTALL)
    for word, instead in INSTEAD.items():
        found = re.search(rf"^.*\b(?:{word})\b.*$", text, re.MULTILINE)
        assert found is None, f"{page.name}: write {instead}: {found[0] if found else ''}"


def test_codes_stand_only_where_they_are_defined() -> None:
    found = [str(path.relative_to(ROOT)) for path in SOURCES if CODE.search(path.read_text())]
    assert not found, "say the thing itself instead of its code"
