"""Learners with unusual names, addresses and course runs: none of them fails another."""

from __future__ import annotations

from tests.sidecar.conftest import Sides
from tests.sidecar.test_drift import course_of, mode_of
from tests.sidecar.test_reconcile import _mode, stem, tokens

#: The LMS may refuse the name; the learner still gets an account.
NAMES = {
    "nul": "Ada\0Lovelace",
    "rtl": "\u202eecalevoL adA\u200f\u2066",
    "long": "A" * 10_000,
    "markup": "<script>alert(1)</script> &amp; {{7*7}} %s",
    "lines": "Ada\r\nX-Header: 1\x1b[2J",
    "emoji": "👩\u200d🚀 आदा ローヴ",
    "blank": "   ",
}
EMAILS = {
    "quote": "o'hara+tag@example.org",
    "idn": "ada@exämple.org",
    "many": "a" * 230 + "@example.org",
}
NO_EMAILS = {
    "space": '"a b"@example.org',
    "utf": "ädä@example.org",
    "noat": "noat.example.org",
    "nul": "a\0@example.org",
}
NO_RUNS = (
    "",
    "no key",
    "course-v1:a+b",
    "course-v1:a\0+b+c",
    "course-v1:a/b+b+c",
    "../../admin",
    "course-v1:ü+é+ñ",
    "x" * 250,
)


def test_none_fails_another(sides: Sides) -> None:
    none_fails_another(sides)


def none_fails_another(sides: Sides) -> None:
    fine = [stem(sides, f"oddfine{number}") for number in range(4)]
    named = {stem(sides, f"oddn{word}"): name for word, name in NAMES.items()}
    mailed = {stem(sides, f"oddm{word}"): stem(sides, mail) for word, mail in EMAILS.items()}
    without = {stem(sides, f"oddx{word}"): stem(sides, mail) for word, mail in NO_EMAILS.items()}
    sides.people(*fine[:2], *named, *mailed, *without, *fine[2:])
    change(sides, "name", named)
    change(sides, "email", {**mailed, **without})
    for course in NO_RUNS:
        sides.enroll(fine[0], course)
    sides.enroll(fine[1], course_of(sides), **_mode(sides))

    done = sides.json("reconcile", "--kind", "account", "--kind", "enrollment")

    kinds = done["kinds"]
    assert [kinds["account"][result] for result in ("done", "refused", "failed")] == [
        len([*fine, *named, *mailed]),
        len(without),
        0,
    ], done
    assert [kinds["enrollment"][result] for result in ("done", "refused", "failed")] == [
        1,
        len(NO_RUNS),
        0,
    ], done
    for name in (*fine, *named, *mailed):
        assert len(tokens(sides, name)) == 1, name
    for name in without:
        assert tokens(sides, name) == [], name
    assert sides.enrollments_in_lms(fine[1]) == {(course_of(sides), mode_of(sides), True)}
    shown = sides.usher("drift", "--all")
    assert shown.exit_code == 1, shown.output
    assert shown.output.replace("\n", "").isprintable()
    put_away(sides, [fine[0], *without])


def change(sides: Sides, column: str, values: dict[str, str]) -> None:
    sides.shape.run(
        "from users.models import User\n"
        f"for name, value in {values!r}.items():\n"
        f"    User.objects.filter(username=name).update({column}=value)\nresult = None"
    )


def put_away(sides: Sides, names: list[str]) -> None:
    sides.shape.run(
        "from users.models import User\n"
        f"User.objects.filter(username__in={names!r}).update(is_active=False)\nresult = None"
    )
