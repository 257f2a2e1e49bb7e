"""Writes docs/doctor/ from the checks' docstrings: ``python -m usher.doctor.docs docs/doctor``."""

import inspect
import sys
from itertools import groupby
from pathlib import Path

from usher.doctor.check import Check, all_checks

_INTRO = """# What `usher doctor` looks at

    usher doctor                                              # a demo, or Tutor and the checkout here
    usher doctor --application ~/mitxonline --tutor-root "$(tutor config printroot)" --mode dev
    usher doctor --lms http://local.openedx.io --application http://mitxonline.odl.local:8013 \\
                 --token-file worker.token                    # just two addresses and a token

It reads what it finds, side by side, and changes nothing. A check is skipped, with the reason, when
what it needs isn't there, or when one that it comes after has failed: the first failed line is the
root cause, and the last line says what to do next. Exit code 0: nothing failed; 1: something did; 2: it
couldn't look. `--fix` shows, then repairs, what is safe to repair. `--journey` walks a throw-away learner
through the whole chain and removes them. `--only ID` asks one check, `--list` names all, `--json` is for
machines. The application's staff page `/staff/health/` shows the same.

## A check of your own

A class with an id, a docstring (its documentation) and a `probe`, named under the entry point group
`usher.doctor.checks` of any installed distribution:

```python
from usher.doctor.check import Check, Finding, check, failed, ok
from usher.doctor.context import Context


@check
class CatalogueIsFresh(Check):
    """The catalogue is fresh.

    Symptom: old prices. Cause: the importer stopped. Fix: start it.
    """

    id = "SHOP-1"
    depends_on = ("NET-1",)

    def probe(self, context: Context) -> Finding:
        answer = context.application.get("/catalogue/age")
        if answer.status_code == 200:
            return ok("it was imported today")
        return failed("no answer", cause="the importer stopped", fix="systemctl start importer")
```

`probe` may raise `usher.doctor.facts.memo.NotKnownError` where it can't know: the check is skipped.

Everything below is generated from the checks: write there, then run
`python -m usher.doctor.docs docs/doctor`.
"""


def pages() -> dict[str, str]:
    """File name -> text, for every family and the index."""
    checks = {name: kind for name, kind in all_checks().items() if _is_ours(kind)}
    found = {}
    index = [_INTRO]
    for family, names in groupby(checks, key=lambda name: name.split("-")[0]):
        kinds = [checks[name] for name in names]
        file_name = f"{family.lower()}.md"
        title = inspect.getdoc(sys.modules[kinds[0].__module__]) or family
        found[file_name] = _page(title, kinds)
        index.append(f"\n## [{title.splitlines()[0].rstrip('.')}]({file_name})\n")
        index += [f"- {kind.id}: {kind.title()}" for kind in kinds]
    found["README.md"] = "\n".join(index) + "\n"
    return found


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


def _is_ours(kind: type[Check]) -> bool:
    return kind.__module__.startswith("usher.doctor.")


def _page(title: str, kinds: list[type[Check]]) -> str:
    parts = [f"# {title.splitlines()[0].rstrip('.')}\n\n[All checks](README.md)\n"]
    for kind in kinds:
        body = (inspect.getdoc(kind) or "").splitlines()
        parts.append(f"\n## {kind.id}: {kind.title()}\n")
        parts += [_line(line) for line in body[1:] if line.strip()]
        if kind.depends_on:
            parts.append(f"\nComes after {', '.join(kind.depends_on)}.")
    return "\n".join(parts) + "\n"


def _line(line: str) -> str:
    word, colon, rest = line.partition(":")
    if colon and word in ("Symptom", "Cause", "Fix"):
        return f"- **{word}:**{rest}"
    return f"  {line}"


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/doctor"))
