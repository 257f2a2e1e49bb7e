"""A learner or course run with an unusual name or address doesn't make the rows of other learners
fail."""

from __future__ import annotations

from tests.sidecar.conftest import System, name_for
from tests.sidecar.test_drift import course_of, mode_of
from tests.sidecar.test_reconcile import mode_field, tokens_of

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
VALID_EMAILS = {
    "quote": "o'hara+tag@example.org",
    "idn": "ada@exämple.org",
    "many": "a" * 230 + "@example.org",
}
INVALID_EMAILS = {
    "space": '"a b"@example.org',
    "utf": "ädä@example.org",
    "noat": "noat.example.org",
    "nul": "a\0@example.org",
}
INVALID_RUNS = (
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
    check_learners_with_unusual_values(system)


def check_learners_with_unusual_values(system: System) -> None:
    """Valid learners get accounts and enrollments; only invalid addresses and runs are refused."""
    usual = [name_for(system, f"oddfine{number}") for number in range(4)]
    unusual_names = {name_for(system, f"oddn{word}"): name for word, name in NAMES.items()}
    unusual_emails = {
        name_for(system, f"oddm{word}"): name_for(system, mail)
        for word, mail in VALID_EMAILS.items()
    }
    invalid_emails = {
        name_for(system, f"oddx{word}"): name_for(system, mail)
        for word, mail in INVALID_EMAILS.items()
    }
    # Rows of usual learners come before and after those with unusual values.
    system.create_users(*usual[:2], *unusual_names, *unusual_emails, *invalid_emails, *usual[2:])
    set_column(system, "name", unusual_names)
    set_column(system, "email", {**unusual_emails, **invalid_emails})
    for course in INVALID_RUNS:
        system.create_enrollment(usual[0], course)
    system.create_enrollment(usual[1], course_of(system), **mode_field(system))

    report = system.json("reconcile", "--kind", "account", "--kind", "enrollment")

    kinds = report["kinds"]
    assert [kinds["account"][result] for result in ("done", "refused", "failed")] == [
        len([*usual, *unusual_names, *unusual_emails]),
        len(invalid_emails),
        0,
    ], report
    assert [kinds["enrollment"][result] for result in ("done", "refused", "failed")] == [
        1,
        len(INVALID_RUNS),
        0,
    ], report
    for name in (*usual, *unusual_names, *unusual_emails):
        assert len(tokens_of(system, name)) == 1, name
    for name in invalid_emails:
        assert tokens_of(system, name) == [], name
    assert system.enrollments_in_lms(usual[1]) == {(course_of(system), mode_of(system), True)}
    # Terminals would obey control characters in the values.
    listed = system.usher("drift", "--all")
    assert listed.exit_code == 1, listed.output
    assert listed.output.replace("\n", "").isprintable()
    system.deactivate_users(usual[0], *invalid_emails)


def test_an_existing_account_keeps_its_name_if_the_application_has_no_valid_one(
    system: System,
) -> None:
    names = {name_for(system, "oddkeptempty"): "", name_for(system, "oddkeptmarkup"): "<b>Ada</b>"}
    system.create_accounts_in_lms(*names)
    system.create_users(*names)
    set_column(system, "name", names)

    system.json("reconcile", "--kind", "account")
    assert [len(tokens_of(system, name)) for name in names] == [1, 1]
    empty, *_ = names
    set_column(system, "email", {empty: f"{empty}@new.example"})
    system.json("reconcile", "--kind", "profile", "--user", empty)

    accounts = system.api("GET", f"/api/user/v1/accounts?username={','.join(names)}")
    assert {account["name"] for account in accounts} == {f"Name {name}" for name in names}
    assert f"{empty}@new.example" in {account["email"] for account in accounts}


def test_the_email_address_is_updated_although_the_name_is_refused(system: System) -> None:
    name = name_for(system, "oddmoved")
    system.create_users(name)
    system.json("reconcile", "--kind", "account")
    set_column(system, "name", {name: "<b>Ada</b>"})
    set_column(system, "email", {name: f"{name}@new.example"})

    result = system.usher("reconcile", "--kind", "profile", "--user", name)

    assert "the LMS kept its own name" in " ".join(result.output.split())
    (account,) = system.api("GET", f"/api/user/v1/accounts?username={name}")
    assert (account["name"], account["email"]) == (f"Name {name}", f"{name}@new.example")


def set_column(system: System, column: str, values: dict[str, str]) -> None:
    """Sets this column of users in the application. values: username → value."""
    system.application.run(
        "from users.models import User\n"
        f"for name, value in {values!r}.items():\n"
        f"    User.objects.filter(username=name).update({column}=value)\nresult = None"
    )


def test_a_learner_without_an_email_address_is_named_in_reports(system: System) -> None:
    name, course = name_for(system, "nomail"), course_of(system)
    system.create_users(name)
    set_column(system, "email", {name: ""})
    system.create_enrollment(name, course, **mode_field(system))
    ((key,),) = system.rows("users.User", "pk", username=name)
    who = f"user {key}, without e-mail"

    before = system.json("drift")["differences"]
    report = system.json("reconcile", "--kind", "account", "--kind", "enrollment")
    after = system.json("drift")

    assert ("account", who) in {(row["kind"], row["what"]) for row in before}
    assert who in {row["what"] for row in report["reasons"] if row["kind"] == "account"}
    assert f"{who} in {course}" in {row["what"] for row in after["differences"]}
    if system.application.name == "mitxonline":  # MIT xPro stores no refusals of accounts
        assert who in {row["what"] for row in after["given_up"]}
    set_column(system, "email", {name: f"{name}@example.org"})  # addresses are unique
    system.deactivate_users(name)


def test_an_account_keeps_its_email_address_if_the_application_has_none(system: System) -> None:
    name = name_for(system, "lostmail")
    system.create_users(name)
    system.json("reconcile", "--kind", "account")
    set_column(system, "email", {name: ""})
    assert system.json("reconcile", "--kind", "profile", "--user", name)["kinds"] == {}
    (account,) = system.api("GET", f"/api/user/v1/accounts?username={name}")
    assert account["email"] == f"{name}@example.org"
    system.deactivate_users(name)
