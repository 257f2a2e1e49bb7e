"""Documentation, comments and messages use the field's terms: see the glossary."""

import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Word → the words to write in its place, on pages and in the prose of code.
REPLACEMENTS = {
    r"roads?": "public API, batch API",
    r"rooms?": "package",
    r"brings?|brought": "send, create, update, restore",
    r"lays|laid|lay in": "set, write",
    r"whoever": "the person, the user",
    r"unjam|woken": "retry, make due",
    r"parked": "refused",
    r"both sides|either side|this side|that side": "the application and the LMS",
    r"believed": "accepted, counts",
    r"throw-away": "temporary, test learner",
    r"work(?:s|ed)? off|goes on|go on": "process, continue",
    r"as wanted": "in sync, desired",
    r"under way": "in progress",
    r"beside": "next to, in addition to",
    r"(?:stands?|stood) still": "is suspended",
    r"taken for": "counts as",
}
#: Pages must also avoid words that code may contain as identifiers or with another meaning.
REPLACEMENTS_ON_PAGES = REPLACEMENTS | {
    r"P[1-9][0-9]?": "the step itself",
    r"throwaway": "temporary, test learner",
}
#: Further words that names of tests must not have; underscores join their words.
WORDS_IN_NAMES = (
    "parked",
    "told",
    "throwaway",
    "walker",
    "believed",
    "put_right",
    "on_the_wire",
    "at_once",
    "under_way",
    "throw_away",
    "worked_on",
)
#: Earlier names of the engine's ``make_due``, ``recheck``, ``Runner``, ``refused_at`` and
#: ``LmsContext``, and of connect's ``write_record``.
FORMER_NAMES = (
    r"\bparked_at\b|\.wake\(|\bwake_soon\b|\bunjam\b|\bPump\b|\bMeans\b(?=[:(,)])|\blay_\w+"
)
_PARTS_OF_F_STRINGS = (tokenize.FSTRING_MIDDLE,) if hasattr(tokenize, "FSTRING_MIDDLE") else ()
FOLDERS = [
    *sorted(path for path in (ROOT / "src/usher").iterdir() if (path / "__init__.py").exists()),
    *(ROOT / name for name in ("benchmarks", "campus", "scripts", "simulation", "tests/support")),
]
SOURCES = [
    path
    for folder in FOLDERS
    for path in sorted(folder.rglob("*.py"))
    if "migrations" not in path.parts and path.parts[-2] != "checks"
]
#: Identifiers of doctor's checks and of steps of a manual procedure.
CODE = re.compile(
    r"\((?:[NP]\d{1,2}|(?:ACC|APP|CRS|ENR|ENV|LMS|NET|OAU|OPS|OUT|PRV|SVC|TUT)-\d+)\)"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_forbidden_words_are_not_in_the_documentation(page: Path) -> None:
    # Without code and the addresses of links.
    text = re.sub(r"```.*?```|`[^`\n]*`|\]\([^)]*\)", "", page.read_text(), flags=re.DOTALL)
    for word, replacement in REPLACEMENTS_ON_PAGES.items():
        match = re.search(rf"^.*\b(?P<word>{word})\b.*$", text, re.MULTILINE)
        assert match is None, (
            f"{page.name}: {match['word']}: write {replacement}: {match[0]}" if match else ""
        )


def prose_of(path: Path) -> list[tuple[int, str]]:
    """(number of the line, text) of each comment, docstring and message of a file."""
    with tokenize.open(path) as file:
        tokens = list(tokenize.generate_tokens(file.readline))
    texts = (tokenize.COMMENT, tokenize.STRING, *_PARTS_OF_F_STRINGS)
    return [(token.start[0], token.string) for token in tokens if token.type in texts]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_forbidden_words_are_not_in_the_code(folder: Path) -> None:
    findings = [
        f"{path.relative_to(ROOT)}:{line}: {match[0]}: write {replacement}: {text}"
        for path in SOURCES
        if path.is_relative_to(folder)
        for line, text in prose_of(path)
        for word, replacement in REPLACEMENTS.items()
        if (match := re.search(rf"\b(?:{word})\b", text, re.IGNORECASE))
    ]
    assert not findings, "\n".join(findings)


def test_former_names_are_not_in_the_code_of_the_application() -> None:
    findings = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        if "application" in path.parts
        for name in re.findall(FORMER_NAMES, path.read_text())
    ]
    assert not findings


def test_codes_of_checks_occur_only_in_the_files_that_define_them() -> None:
    files = [str(path.relative_to(ROOT)) for path in SOURCES if CODE.search(path.read_text())]
    assert not files, "say the thing itself instead of its code"


def test_forbidden_words_are_not_in_the_names_of_tests() -> None:
    words = "|".join([*REPLACEMENTS, *WORDS_IN_NAMES])
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        match = re.search(
            rf"^def test_(?:\w*_)?(?:{words})(?:_\w*)?\(", path.read_text(), re.MULTILINE
        )
        assert match is None, f"{path.name}: {match[0] if match else ''}"
