"""A learner or course run with an unusual name or address doesn't make the rows of other learners
fail."""

from __future__ import annotations

from tests.sidecar.conftest import System
from tests.sidecar.test_drift import course_of, mode_of
from tests.sidecar.test_reconcile import _mode, name_for, tokens

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


def test_learners_with_unusual_values_do_not_stop_the_others(system: System) -> None:
    none_fails_another(system)


def none_fails_another(system: System) -> None:
    fine = [name_for(system, f"oddfine{number}") for number in range(4)]
    named = {name_for(system, f"oddn{word}"): name for word, name in NAMES.items()}
    mailed = {
        name_for(system, f"oddm{word}"): name_for(system, mail) for word, mail in EMAILS.items()
    }
    without = {
        name_for(system, f"oddx{word}"): name_for(system, mail) for word, mail in NO_EMAILS.items()
    }
    system.people(*fine[:2], *named, *mailed, *without, *fine[2:])
    change(system, "name", named)
    change(system, "email", {**mailed, **without})
    for course in NO_RUNS:
        system.enroll(fine[0], course)
    system.enroll(fine[1], course_of(system), **_mode(system))

    done = system.json("reconcile", "--kind", "account", "--kind", "enrollment")

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
        assert len(tokens(system, name)) == 1, name
    for name in without:
        assert tokens(system, name) == [], name
    assert system.enrollments_in_lms(fine[1]) == {(course_of(system), mode_of(system), True)}
    shown = system.usher("drift", "--all")
    assert shown.exit_code == 1, shown.output
    assert shown.output.replace("\n", "").isprintable()
    put_away(system, [fine[0], *without])


def change(system: System, column: str, values: dict[str, str]) -> None:
    system.application.run(
        "from users.models import User\n"
        f"for name, value in {values!r}.items():\n"
        f"    User.objects.filter(username=name).update({column}=value)\nresult = None"
    )


def put_away(system: System, names: list[str]) -> None:
    system.application.run(
        "from users.models import User\n"
        f"User.objects.filter(username__in={names!r}).update(is_active=False)\nresult = None"
    )
