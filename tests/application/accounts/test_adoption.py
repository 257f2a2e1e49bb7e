"""Users who had an LMS account before Usher are listed. Only an operator's decision links them."""

import codecs
import csv
import re
import secrets
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command

from tests.application.conftest import System, configure, wait_for_requests
from tests.support.lms_process import LmsProcess, lms_process
from usher.application.accounts.services import ensure_account
from usher.application.adapter import DefaultAdapter
from usher.application.audit.models import AuditEvent
from usher.application.enrollments.services import enroll
from usher.application.explain import explain
from usher.application.models import (
    CourseRun,
    Enrollment,
    LmsAccount,
    LmsToken,
    UsernameReservation,
)
from usher.application.states import State, state
from usher.application.webhooks.services import process_message
from usher.console.learners.services import read_learner
from usher.contract.oauth import DEFAULT_BACKEND
from usher.engine.services import reconcile

pytestmark = pytest.mark.each_database


class OneAddress(DefaultAdapter):
    """A project in which several users have the same e-mail address."""

    ADDRESS = "department@company.example"

    def email(self, user: Any) -> str:
        return self.ADDRESS


def adopt_users(*arguments: str) -> tuple[str, str]:
    """Runs ``adopt_users``. Returns standard output and standard error. Commands that are printed
    on several lines are joined into one line."""
    out, err = StringIO(), StringIO()
    call_command("adopt_users", *arguments, stdout=out, stderr=err)
    return joined_lines(out.getvalue()), joined_lines(err.getvalue())


def joined_lines(text: str) -> str:
    """The text, in which commands that are printed on several lines are joined into one line."""
    return re.sub(r" \\\n +", " ", text)


def make_lms_account(system: Any, username: str, email: str) -> None:
    """Creates an account in the LMS, without a link to a learner."""
    system.lms.shell(
        "from usher.embedded.home.seeds import create_person; "
        f"create_person({username!r}, {email!r}, name='Somebody')"
    )


@pytest.fixture
def csv_list(system: Any, tmp_path: Path) -> Any:
    """A function that exports the users to a CSV file. It returns a dictionary, username → row, and
    the file's path."""
    file = tmp_path / "users.csv"

    def make(*arguments: str) -> tuple[dict[str, dict[str, str]], Path]:
        file.unlink(missing_ok=True)
        adopt_users("--to", str(file), *arguments)
        with file.open(newline="") as source:
            return {row["user"]: row for row in csv.DictReader(source)}, file

    return make


def decide(file: Path, **decisions: str) -> None:
    """Writes decisions into the column ``decision`` of the file. decisions: username → decision."""
    with file.open(newline="") as source:
        rows = list(csv.DictReader(source))
    with file.open("w", newline="") as target:
        writer = csv.DictWriter(target, rows[0].keys())
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"decision": decisions.get(row["user"], row["decision"])})


def test_adopt_users_prints_the_link_command_for_the_lms_of_usher_dev(
    system: Any, csv_list: Any, settings: Any, tmp_path: Path
) -> None:
    user = system.learner()
    make_lms_account(system, name := f"old_{secrets.token_hex(4)}", user.email)
    _, file = csv_list()
    decide(file, **{user.username: "link"})
    settings.BASE_DIR = tmp_path
    # As if ``usher dev`` had created an LMS for this project.
    (tmp_path / ".usher" / "dev" / "lms").mkdir(parents=True)
    (tmp_path / ".usher" / "dev" / "lms" / "manage.py").touch()
    env = f"OPENEDX_API_BASE_URL={settings.OPENEDX_API_BASE_URL}\n"
    (tmp_path / ".usher" / "dev" / "env").write_text(env)
    out, _ = adopt_users("--decisions", str(file), "--application", "shop")
    command = f"python .usher/dev/lms/manage.py lms usher_link --username {name} --application shop"
    assert f"  {command}" in out.splitlines()
    text = " ".join(out.split())
    assert "processes them within 10 min. To process them immediately, run:" in text


def test_the_next_command_is_printed_on_a_line_of_its_own(system: Any, tmp_path: Path) -> None:
    user = system.learner()
    make_lms_account(system, f"old_{secrets.token_hex(4)}", user.email)
    file = tmp_path / "users.csv"
    out, err = adopt_users("--to", str(file))
    printed = (out + err).splitlines()
    assert f"$ python manage.py adopt_users --decisions {file}" in printed
    # Text is wrapped at 80 columns, a command is not.
    assert [line for line in printed if len(line) > 80 and not line.startswith("$ ")] == []


def test_only_accounts_with_the_decision_link_are_linked(system: Any, csv_list: Any) -> None:
    decided, undecided, without_account = system.learner(), system.learner(), system.learner()
    names = {user.pk: f"old_{secrets.token_hex(4)}" for user in (decided, undecided)}
    for user in (decided, undecided):
        make_lms_account(system, names[user.pk], user.email)
    rows, file = csv_list()
    assert set(rows) == {decided.username, undecided.username}
    assert rows[decided.username]["lms_username"] == names[decided.pk]
    assert not LmsAccount.objects.exists()
    adopt_users("--decisions", str(file))  # the file has no decisions yet
    assert not LmsAccount.objects.exists()
    decide(file, **{decided.username: "link"})
    out, _ = adopt_users("--decisions", str(file), "--application", "campus")
    assert f"usher_link --username {names[decided.pk]} --application campus" in out
    account = LmsAccount.objects.get()
    assert (account.user, account.username) == (decided, names[decided.pk])
    assert account.is_ready
    assert without_account.username not in out


def test_the_list_names_unconfirmed_and_differing_email_addresses_as_conflicts(
    system: Any, csv_list: Any
) -> None:
    from allauth.account.models import EmailAddress

    unconfirmed, namesake = system.learner(), system.learner()
    EmailAddress.objects.create(user=unconfirmed, email=unconfirmed.email, verified=False)
    make_lms_account(system, f"old_{secrets.token_hex(4)}", unconfirmed.email)
    make_lms_account(system, namesake.username, f"{secrets.token_hex(6)}@elsewhere.example")
    rows, _ = csv_list()
    assert "not confirmed" in rows[unconfirmed.username]["conflict"]
    rows, _ = csv_list("--by", "username")
    assert rows[namesake.username]["conflict"] == "the e-mail addresses differ"


def test_a_name_reserved_for_a_learner_with_another_account_is_no_conflict(
    system: Any, csv_list: Any
) -> None:
    """After the loss of the application's database, a new user may reserve the username of another
    learner's LMS account. The list shows a conflict until the new user has an LMS account with
    another username."""
    name = f"shop_{secrets.token_hex(4)}"
    user, newcomer = system.learner(), system.learner()
    make_lms_account(system, name, user.email)
    UsernameReservation.objects.create(username=name, user=newcomer)
    rows, file = csv_list()
    assert rows[user.username]["conflict"].endswith(f"another learner, {newcomer.username}")
    account_of_newcomer = ensure_account(newcomer, reconcile_now=True)
    assert account_of_newcomer.is_ready
    rows, file = csv_list()
    assert rows[user.username]["conflict"] == ""
    decide(file, **{user.username: "link"})
    out, _ = adopt_users("--decisions", str(file))
    assert "1 linked, 0 failed" in out
    assert LmsAccount.objects.get(user=user).username == name
    assert [row.user for row in UsernameReservation.objects.filter(username=name)] == [user]
    account_of_newcomer.refresh_from_db()
    assert account_of_newcomer.username != name


def test_the_option_by_username_is_refused_if_people_sign_in_by_email_address(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_user_model(), "USERNAME_FIELD", "email")
    with pytest.raises(CommandError, match="leave out --by username"):
        adopt_users("--by", "username")


def test_a_conflict_names_the_learner_who_has_reserved_the_username(
    system: Any, csv_list: Any
) -> None:
    name = f"old_{secrets.token_hex(4)}"
    user, owner = system.learner(), system.learner()
    make_lms_account(system, name, user.email)
    reservation = UsernameReservation.objects.create(username=name, user=owner)
    ensure_account(owner)
    rows, file = csv_list()
    assert "has no LMS account yet" in rows[user.username]["conflict"]
    # As after the deletion of the owner.
    UsernameReservation.objects.filter(pk=reservation.pk).update(user=None)
    rows, file = csv_list()
    assert rows[user.username]["conflict"].endswith("a learner who was deleted here")
    decide(file, **{user.username: "link"})
    with pytest.raises(SystemExit):
        adopt_users("--decisions", str(file))
    assert not LmsAccount.objects.filter(user=user, created_in_lms_at__isnull=False).exists()


def test_an_account_found_for_two_users_is_a_conflict_in_both_rows(
    system: Any, csv_list: Any, settings: Any
) -> None:
    settings.USHER_ADAPTER = f"{__name__}.OneAddress"
    first, second = system.learner(), system.learner()
    make_lms_account(system, f"old_{secrets.token_hex(4)}", OneAddress.ADDRESS)
    rows, _ = csv_list()
    assert rows[first.username]["conflict"] == f"also found for {second.username}"
    assert rows[second.username]["conflict"] == f"also found for {first.username}"


def test_a_learner_refused_for_a_duplicate_email_can_be_linked(system: Any, csv_list: Any) -> None:
    user = system.learner()
    name = f"old_{secrets.token_hex(4)}"
    make_lms_account(system, name, user.email)
    account = ensure_account(user, reconcile_now=True)
    assert account.error_code == "duplicate-email"
    history = [sentence.text for sentence in explain(user) if sentence.topic == "history"]
    assert any("refused [duplicate-email]" in text for text in history), history
    _, file = csv_list()
    decide(file, **{user.username: "link"})
    adopt_users("--decisions", str(file))
    account.refresh_from_db()
    assert (account.username, account.is_ready) == (name, True)
    assert (state(account), account.error_code) == (State.PENDING, "awaiting-link")


@pytest.fixture(scope="module")
def guarded_lms(live_server: Any) -> Iterator[LmsProcess]:
    """As in production, this LMS links no existing account at sign-in, because ``USHER_BACKENDS``
    names its backend. A backend without ``usher.lms`` would link an account with the learner's
    username or e-mail address."""
    with lms_process(with_plugin=True, USHER_BACKENDS={DEFAULT_BACKEND: DEFAULT_BACKEND}) as lms:
        lms.connect_with_plugin(live_server.url)
        yield lms


@pytest.fixture(params=["public", "batch"])
def guarded_system(
    request: Any, guarded_lms: Any, live_server: Any, transactional_db: None, settings: Any
) -> Iterator[System]:
    """Application and ``guarded_lms``. The test runs once with the public API and once with the
    batch API."""
    use_batch_api = request.param == "batch"
    configure(settings, guarded_lms, live_server.url, USHER_USE_BATCH_API=use_batch_api)
    yield System(guarded_lms, live_server.url)
    wait_for_requests()


def list_and_link(system: Any, file: Path) -> tuple[Any, str]:
    """Links a user to an existing LMS account in the application, but not in the LMS. Returns the
    user and the username of the LMS account."""
    user = system.learner()
    name = f"old_{secrets.token_hex(4)}"
    make_lms_account(system, name, user.email)
    adopt_users("--to", str(file))
    decide(file, **{user.username: "link"})
    out, _ = adopt_users("--decisions", str(file))
    assert "linked here, not in the LMS yet" in out
    assert f"usher_link --username {name} --application tested" in out
    assert f"adopt_users --decisions {file}" in out
    return user, name


def account_and_token(user: Any) -> list[Any]:
    return [LmsAccount.objects.get(user=user), LmsToken.objects.get(user=user)]


def check_records_await_link(user: Any) -> None:
    """Checks that the account and the token of a user wait for the link in the LMS, without an
    attempt, and say so."""
    account, token = account_and_token(user)
    command = f"usher_link --username {account.username} --application tested"
    assert "`" not in token.error_message, "only the account's message names the command"
    assert account.error_message.endswith(f"`./manage.py lms {command}`")
    for row in (account, token):
        assert f"not linked its account {account.username}" in row.error_message
        assert (state(row), row.error_code, row.attempts) == (State.PENDING, "awaiting-link", 0)


def receive_message_about_account(username: str) -> None:
    """Processes a message about a changed account, as if the LMS had sent a webhook."""
    process_message(
        event_id=secrets.token_hex(8), kind="account.changed", username=username, course_id=""
    )


def test_records_wait_until_the_lms_links_the_account_and_name_the_command(
    guarded_system: Any, tmp_path: Path
) -> None:
    user, name = list_and_link(guarded_system, tmp_path / "users.csv")
    assert not LmsAccount.objects.due(), "the LMS would refuse every request for this account"
    check_records_await_link(user)
    run_in_lms = CourseRun.objects.create(course_key="course-v1:edX+DemoX+Demo_Course")
    enroll(user, run_in_lms)
    for _ in range(2):  # a worker rechecks the rows, or somebody retries them
        LmsAccount.objects.make_due()
        LmsToken.objects.make_due()
        reconcile(["account", "token", "enrollment"])
        check_records_await_link(user)
    enrollment = Enrollment.objects.get()
    assert enrollment.error_code == "no-account"
    assert f"until the LMS account {name} is linked" in enrollment.error_message
    command = f"./manage.py lms usher_link --username {name} --application tested"
    printed = StringIO()
    call_command("why", user.email, stdout=printed)
    text = joined_lines(printed.getvalue())
    lines = [line.strip() for line in text.splitlines() if "usher_link" in line]
    assert lines == [f"$ {command}"], "the command is on a line of its own, to be copied"
    # Somebody runs the command in the LMS, which then sends a message about the account.
    guarded_system.lms.manage("usher_link", "--username", name, "--application", "tested")
    receive_message_about_account(name)
    reconcile(["account", "token", "enrollment"])
    assert [state(row) for row in account_and_token(user)] == [State.IN_SYNC] * 2
    assert LmsToken.objects.get().is_valid_for(60)
    assert state(Enrollment.objects.get()) is State.IN_SYNC
    story = explain(user)
    (account_text,) = [sentence.text for sentence in story if sentence.topic == "account"]
    assert account_text.startswith(f"LMS account {name}, linked "), account_text
    assert read_learner(user).link_text.startswith(
        "An operator linked it to an LMS account that existed"
    )
    events = AuditEvent.objects.filter(subject=name).order_by("pk").values_list("name", flat=True)
    assert [event for event in events if event.startswith("lms-account")] == [
        "lms-account-linked",
        "lms-account-linked-in-lms",
    ]
    assert not any("created" in sentence.text for sentence in story if sentence.topic == "history")


def test_a_linked_account_that_the_lms_lost_has_the_origin_created_after_its_repair(
    guarded_system: Any, tmp_path: Path
) -> None:
    _, name = list_and_link(guarded_system, tmp_path / "users.csv")
    guarded_system.lms.manage("usher_link", "--username", name, "--application", "tested")
    receive_message_about_account(name)
    reconcile(["account", "token"])
    assert LmsAccount.objects.get().origin == "linked"
    # As recorded of an account that the LMS has lost.
    LmsAccount.objects.update(created_in_lms_at=None, observed_is_active=None)
    LmsAccount.objects.make_due()
    reconcile(["account", "token"])
    account = LmsAccount.objects.get()
    assert (account.is_ready, account.origin) == (True, "created"), account.error_message


def test_adopt_users_makes_the_records_due_when_run_again_after_usher_link(
    guarded_system: Any, tmp_path: Path
) -> None:
    user, name = list_and_link(guarded_system, file := tmp_path / "users.csv")
    out, _ = adopt_users("--decisions", str(file))
    assert f"usher_link --username {name} --application tested" in out, "the link is still missing"
    check_records_await_link(user)
    guarded_system.lms.manage("usher_link", "--username", name, "--application", "tested")
    out, _ = adopt_users("--decisions", str(file))
    assert "linked before, and in the LMS; checked now" in out
    assert "usher_link" not in out
    reconcile(["account", "token"], user=user)
    assert [state(row) for row in account_and_token(user)] == [State.IN_SYNC] * 2


def test_records_do_not_wait_if_usher_link_ran_before_adopt_users(
    system_with_batch_api: Any, tmp_path: Path
) -> None:
    user = system_with_batch_api.learner()
    name = f"old_{secrets.token_hex(4)}"
    make_lms_account(system_with_batch_api, name, user.email)
    system_with_batch_api.lms.manage("usher_link", "--username", name, "--application", "tested")
    adopt_users("--to", str(file := tmp_path / "users.csv"))
    decide(file, **{user.username: "link"})
    out, _ = adopt_users("--decisions", str(file))
    assert "linked here, and in the LMS; checked now" in out
    reconcile(["account", "token"], user=user)
    assert [state(row) for row in account_and_token(user)] == [State.IN_SYNC] * 2


def test_an_account_is_refused_if_its_link_is_removed_in_the_lms(
    system_with_batch_api: Any, tmp_path: Path
) -> None:
    """Somebody removed the link on purpose, so Usher does not wait for a new link: a person must
    decide."""
    user, name = list_and_link(system_with_batch_api, file := tmp_path / "users.csv")
    system_with_batch_api.lms.manage("usher_link", "--username", name, "--application", "tested")
    adopt_users("--decisions", str(file))
    reconcile(["account", "token"], user=user)
    system_with_batch_api.lms.manage(
        "usher_link", "--unlink", "--username", name, "--application", "tested"
    )
    LmsAccount.objects.make_due()
    reconcile(["account"], user=user)
    assert state(LmsAccount.objects.get()) is State.REFUSED


def test_a_row_whose_account_was_deleted_fails_and_the_other_rows_are_linked(
    system: Any, csv_list: Any
) -> None:
    learner_of_deleted, learner_of_existing = system.learner(), system.learner()
    for user in (learner_of_deleted, learner_of_existing):
        make_lms_account(system, f"old_{user.pk}_{secrets.token_hex(3)}", user.email)
    rows, file = csv_list()
    decide(file, **{learner_of_deleted.username: "link", learner_of_existing.username: "link"})
    name = rows[learner_of_deleted.username]["lms_username"]
    system.lms.shell(
        "from django.contrib.auth.models import User; "
        f"User.objects.filter(username={name!r}).delete()"
    )
    with pytest.raises(SystemExit):
        adopt_users("--decisions", str(file))
    assert LmsAccount.objects.get().user == learner_of_existing


def test_an_account_linked_to_another_learner_is_not_adopted(
    system_with_batch_api: Any, tmp_path: Path
) -> None:
    user, name = system_with_batch_api.learner(), f"old_{secrets.token_hex(4)}"
    make_lms_account(system_with_batch_api, name, user.email)
    adopt_users("--to", str(file := tmp_path / "users.csv"))
    system_with_batch_api.lms.shell(
        "from django.contrib.auth.models import User; "
        "from social_django.models import UserSocialAuth; "
        f"UserSocialAuth.objects.create(user=User.objects.get(username={name!r}), "
        f"provider={DEFAULT_BACKEND!r}, uid='stranger')"
    )
    decide(file, **{user.username: "link"})
    out = StringIO()
    with pytest.raises(SystemExit) as failed:
        call_command("adopt_users", "--decisions", str(file), stdout=out)
    assert failed.value.code == 1
    assert f"{name}: in the LMS the learner stranger signs in to this account" in out.getvalue()
    assert "0 linked, 1 failed." in out.getvalue()
    assert not LmsAccount.objects.exists()


def test_a_list_with_decisions_is_not_overwritten(csv_list: Any) -> None:
    _, file = csv_list()
    file.write_text("decisions")
    with pytest.raises(CommandError, match="may contain decisions"):
        adopt_users("--to", str(file))
    assert file.read_text() == "decisions"


@pytest.mark.parametrize(("encoding", "delimiter"), [("utf-8-sig", ","), ("utf-8", ";")])
def test_a_list_saved_by_a_spreadsheet_is_read(
    system: Any, csv_list: Any, encoding: str, delimiter: str
) -> None:
    # A spreadsheet would read both usernames, which begin with = and -, as formulas.
    user = system.learner(f"Zoë_{secrets.token_hex(4)}")
    get_user_model().objects.filter(pk=user.pk).update(username=(name := f"=Zoë{user.pk}"))
    make_lms_account(system, f"-{secrets.token_hex(4)}", user.email)
    _, file = csv_list()
    text = file.read_bytes()
    assert text.startswith(codecs.BOM_UTF8), "without this mark, spreadsheets garble the name"
    rows = list(csv.DictReader(StringIO(text.decode("utf-8-sig"))))
    assert rows[0]["user"] == f"'{name}", "a spreadsheet would read =Zoë as a formula"
    with file.open("w", newline="", encoding=encoding) as target:
        writer = csv.DictWriter(target, rows[0].keys(), delimiter=delimiter)
        writer.writeheader()
        writer.writerow(rows[0] | {"decision": " Link"})  # as a person may type it
    out, _ = adopt_users("--decisions", str(file))
    assert "1 linked, 0 failed." in out
    assert LmsAccount.objects.get().user_id == user.pk


def test_an_unknown_decision_is_named(system: Any, csv_list: Any) -> None:
    first, second = system.learner(), system.learner()
    for user in (first, second):
        make_lms_account(system, f"old_{secrets.token_hex(4)}", user.email)
    _, file = csv_list()
    # No decision is written yet.
    out, _ = adopt_users("--decisions", str(file))
    assert "No row has 'link' in the column decision" in out
    decide(file, **{first.username: "yes", second.username: "skip"})
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("adopt_users", "--decisions", str(file), stdout=out)
    assert "the decision is 'yes': write link or skip" in out.getvalue()
    assert second.username not in out.getvalue()


def test_one_command_in_the_lms_links_several_accounts(
    system_with_batch_api: Any, tmp_path: Path
) -> None:
    users = [system_with_batch_api.learner() for _ in range(3)]
    names = [f"old_{secrets.token_hex(4)}" for _ in users]
    for user, name in zip(users, names, strict=True):
        make_lms_account(system_with_batch_api, name, user.email)
    adopt_users("--to", str(file := tmp_path / "users.csv"))
    decide(file, **{user.username: "link" for user in users})
    out, _ = adopt_users("--decisions", str(file))
    (line,) = [line for line in out.splitlines() if "usher_link" in line]
    command = line.split("./manage.py lms ")[1].split()
    assert set(names) <= set(command)
    system_with_batch_api.lms.manage(*command)
    adopt_users("--decisions", str(file))
    reconcile(["account", "token"])
    assert {state(account) for account in LmsAccount.objects.all()} == {State.IN_SYNC}


def test_a_file_without_the_columns_of_the_list_is_named(tmp_path: Path, db: None) -> None:
    file = tmp_path / "x.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(CommandError, match="lacks the columns"):
        adopt_users("--decisions", str(file))
    with pytest.raises(CommandError, match="can't be opened"):
        adopt_users("--decisions", str(tmp_path / "none.csv"))
