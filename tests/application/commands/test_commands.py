"""Management commands: their effects, output and exit codes. Bad input causes no traceback."""

import io
import json
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, ManagementUtility, call_command
from django.db import OperationalError, ProgrammingError, connection
from oauth2_provider.models import get_application_model

from tests.application.accounts.test_creation import make_lms_account
from tests.application.conftest import UNREACHABLE_URL
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import ensure_account
from usher.application.conf import settings as get_settings
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll
from usher.application.management.output import EngineCommand, describe_database_error
from usher.application.runs.models import CourseMode, CourseRun
from usher.application.runs.services import ensure_run, sync_runs
from usher.client.client import LmsClient
from usher.client.errors import AccessRefused, CircuitOpen
from usher.engine import heartbeat
from usher.management import commands

COMMANDS = Path(commands.__file__).parent
DEMO = "course-v1:edX+DemoX+Demo_Course"


class Finished(NamedTuple):
    """The exit code, the standard output and the standard error of a command."""

    code: int
    out: str
    err: str


def run_command(*arguments, **options):
    """Runs a management command. The code is 0 if the command ends without ``sys.exit``."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    try:
        call_command(*arguments, stdout=out, stderr=err, **options)
    except SystemExit as stop:
        code = stop.code
    return Finished(code, out.getvalue(), err.getvalue())


@pytest.fixture
def passwords(monkeypatch):
    """The environment has the passwords of the users that ``configure_instance`` creates."""
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "a-Password-of-1")
    monkeypatch.setenv("USHER_TEST_LEARNER_PASSWORD", "a-Password-of-2")


def test_manage_py_help_lists_the_commands_under_usher():
    usage = ManagementUtility(["manage.py", "help"]).main_help_text()
    # The help lists the commands of each app under the app's name in brackets.
    groups = {part.split("]")[0]: part.split()[1:] for part in usage.split("[")[1:]}
    assert groups["usher"] == sorted(path.stem for path in COMMANDS.glob("[!_]*.py"))
    assert "application" not in groups


def test_configure_instance_refuses_a_client_secret_that_can_be_guessed(
    transactional_db, settings, monkeypatch
):
    settings.OPENEDX_API_BASE_URL = "http://edx.odl.local:18000"
    monkeypatch.setenv("USHER_EDX_OAUTH_SECRET", "hunter2")
    with pytest.raises(CommandError, match="The client secret has 7 characters") as refused:
        run_command("configure_instance", "--dont-create-users")
    assert "hunter2" not in str(refused.value)
    assert not get_application_model().objects.exists()


def test_configure_instance_creates_client_users_runs_and_enrollments_only_once(
    transactional_db, passwords, settings
):
    settings.OPENEDX_API_BASE_URL = "http://edx.odl.local:18000"
    code, out, _ = run_command(
        "configure_instance", "linux", "--gateway", "172.22.0.1", "--tutor-dev", "--no-input"
    )
    assert code == 0
    client = get_application_model().objects.get(name="edx-oauth-app")
    assert client.client_id in out
    secret = next(line.split()[-1] for line in out.splitlines() if "secret" in line)
    assert len(secret) > 40
    assert secret != client.client_secret  # a hash is stored
    uris = client.redirect_uris.split()
    # The given gateway, a host name of Tutor, and the address in the settings.
    for host in ("172.22.0.1:8000", "local.openedx.io:8000", "edx.odl.local:18000"):
        for backend in ("mitxpro-oauth2", "ol-oauth2"):
            assert f"http://{host}/auth/complete/{backend}/" in uris
    users = get_user_model().objects
    assert users.get(username="admin").is_superuser
    assert users.get(username="testlearner").check_password("a-Password-of-2")
    assert CourseRun.objects.count() == 2  # the two demonstration courses
    assert Enrollment.objects.count() == 2
    # The second time, nothing is changed, and the secret is not printed.
    hashed_secret = client.client_secret
    code, out, _ = run_command(
        "configure_instance", "linux", "--gateway", "172.22.0.1", "--tutor-dev", "--no-input"
    )
    assert code == 0
    assert "nothing to change" in out
    assert secret not in out
    client.refresh_from_db()
    assert client.client_secret == hashed_secret


def test_configure_instance_takes_a_given_client(transactional_db, passwords):
    options = ["--edx-oauth-client", "my-id", "--edx-oauth-secret", "my-secret-of-some-length"]
    code, out, _ = run_command(
        *("configure_instance", "none", "--no-input", "--json", "--dont-enroll"), *options
    )
    assert code == 0
    assert json.loads(out)["client_id"] == "my-id"
    assert json.loads(out)["client_changed"] is True
    assert Enrollment.objects.count() == 0
    # The client exists now, so its secret is not printed again.
    _, out, _ = run_command("configure_instance", "--no-input", "--json", "--dont-enroll", *options)
    assert json.loads(out)["client_secret"] is None
    assert json.loads(out)["changed"] is False
    assert json.loads(out)["client_changed"] is False


def test_configure_instance_says_what_is_missing(transactional_db, monkeypatch):
    monkeypatch.delenv("DJANGO_SUPERUSER_PASSWORD", raising=False)
    with pytest.raises(CommandError, match="gateway"):
        run_command("configure_instance", "linux", "--no-input")
    with pytest.raises(CommandError, match="DJANGO_SUPERUSER_PASSWORD"):
        run_command("configure_instance", "macos", "--no-input")
    assert not get_user_model().objects.exists()
    assert "DJANGO_SUPERUSER_PASSWORD" not in os.environ, "the command changes no variable"


@pytest.mark.parametrize("gateway", ["http://172.17.0.1", "172.17.0.1:8000", "a b", "-x", "[::1"])
def test_a_gateway_that_is_not_just_a_host_is_rejected(db, gateway):
    with pytest.raises(CommandError, match="without http:// and without a port"):
        run_command("configure_instance", "linux", f"--gateway={gateway}", "--dry-run")
    # An IPv6 address and a host name are accepted.
    result = run_command("configure_instance", "linux", "--gateway=fd00::1", "--dry-run")
    assert result.code == 0
    assert "Redirect URIs would be registered for: " in result.out
    assert (
        run_command("configure_instance", "linux", "--gateway=gateway.local", "--dry-run").code == 0
    )


@pytest.mark.parametrize("wait", ["nan", "-1", "inf", "soon"])
def test_a_wait_that_is_no_number_of_seconds_is_rejected(wait):
    for command in ("reconcile", "repair_missing_courseware_records"):
        with pytest.raises(CommandError, match="not a number of seconds"):
            run_command(command, f"--wait={wait}")


def test_configure_instance_creates_nothing_if_no_password_is_entered(db, monkeypatch):
    def end_of_input(prompt):
        raise EOFError

    # A terminal, at which somebody presses Ctrl-D instead of entering a password.
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("getpass.getpass", end_of_input)
    with pytest.raises(CommandError, match="nothing was created"):
        run_command("configure_instance")
    assert not get_user_model().objects.exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OperationalError("no such table: x\nLINE 1"), "no such table: x. Run `manage.py migrate`"),
        (ProgrammingError('relation "x" does not exist\n'), "exist. Run `manage.py migrate`"),
        (OperationalError("unable to open database file"), "unable to open database file"),
        (
            OperationalError('FATAL:  database "x" does not exist'),
            "does not exist. Create it first.",
        ),
        (OperationalError("connection refused"), "can't be used: connection refused. "),
    ],
)
def test_a_database_error_ends_a_command_with_advice_instead_of_a_traceback(
    db, monkeypatch, error, words
):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr("usher.application.accounts.repair.ensure_accounts", refuse)
    with pytest.raises(CommandError, match=re.escape(words)):
        run_command("repair_missing_courseware_records")


@pytest.mark.any_database
def test_an_error_about_a_read_only_database_file_names_the_file():
    text = describe_database_error(OperationalError("attempt to write a readonly database"))
    assert text.startswith("The database can't be written: this user may not write ")
    assert str(connection.settings_dict["NAME"]) in text


# The option --all takes a value, because it does so in MITx Online's command of this name.
@pytest.mark.parametrize("command", [("sync_courserun", "--all", "ALL"), ("sync_courseruns",)])
def test_syncing_all_runs_counts_runs_and_modes(system, command):
    code, out, _ = run_command(*command, "--json")
    assert code == 0, out
    printed, runs = json.loads(out), CourseRun.objects.count()
    modes = CourseMode.objects.count()
    assert CourseRun.objects.get(course_key=DEMO).modes.count() == 2
    assert printed["course_runs"] == {"count": runs, "changed": runs, "unchanged": 0, "failed": 0}
    assert printed["modes"]["count"] == modes
    assert printed["changed"] == runs + printed["modes"]["changed"]
    code, out, _ = run_command(*command)
    assert code == 0
    assert out.splitlines() == [
        f"✓ {runs} course runs: 0 changed, {runs} unchanged, 0 failed",
        f"✓ {modes} modes, by course run: 0 changed, {runs} unchanged, 0 failed",
    ]


@pytest.mark.parametrize("command", ["sync_courserun", "sync_courseruns"])
def test_syncing_one_run_adds_only_that_run(system, command):
    code, out, _ = run_command(command, "--run", DEMO)
    assert code == 0, out
    assert [course_run.course_key for course_run in CourseRun.objects.all()] == [DEMO]


@pytest.mark.parametrize("command", ["sync_courserun", "sync_courseruns"])
def test_syncing_an_unknown_or_malformed_run_fails_and_adds_no_run(system, command):
    code, out, _ = run_command(command, "--run", "course-v1:No+Such+Run")
    assert code == 1
    assert "course-v1:No+Such+Run" in out
    assert "1 failed" in out
    assert "It was not added here." in " ".join(out.split())
    assert "delete the run here" not in " ".join(out.split())
    sync_of_all = run_command("sync_courseruns")
    assert sync_of_all.code == 0, "it would fail if the run with the mistyped key had been added"
    with pytest.raises(CommandError, match="not-a-key"):
        run_command(command, "--run", "not-a-key")


def test_a_dry_run_of_the_sync_of_all_runs_adds_no_run(system):
    code, out, _ = run_command("sync_courseruns", "--all", "ALL", "--dry-run")
    assert code == 0
    assert re.fullmatch(
        r"✓ course runs: [1-9]\d* would be changed; nothing was changed", out.splitlines()[-1]
    )
    assert not CourseRun.objects.exists()


def test_a_dry_run_of_the_sync_counts_no_run_that_is_marked_as_missing(system):
    ensure_run("course-v1:Nobody+Knows+This")
    sync_runs()
    code, out, _ = run_command("sync_courseruns", "--dry-run")
    assert (code, out) == (0, "✓ course runs: 0 would be changed; nothing was changed\n")


def test_sync_courserun_without_run_or_all_is_rejected(db):
    with pytest.raises(CommandError, match="--all --run is required"):
        run_command("sync_courserun")


@pytest.mark.each_database
def test_repair_gives_everybody_an_account_and_a_token(system):
    users = [system.learner() for _ in range(4)]
    code, out, _ = run_command("repair_missing_courseware_records", "--dry-run", "--json")
    assert json.loads(out)["changed"] == 4
    code, out, _ = run_command("repair_missing_courseware_records", "--parallel")
    assert code == 0, out
    assert out.splitlines()[-1] == "✓ accounts and tokens: 4 changed, 0 unchanged, 0 failed"
    assert all(LmsAccount.objects.get(user=user).is_ready for user in users)
    code, out, _ = run_command("repair_missing_courseware_records")
    assert out.splitlines()[-1] == "✓ accounts and tokens: 0 changed, 0 unchanged, 0 failed"


def test_repair_names_the_learner_whose_account_was_refused(system):
    created, refused = system.learner(), system.learner()
    make_lms_account(system, f"x{refused.username}", refused.email, hours_old=1)
    code, out, _ = run_command("repair_missing_courseware_records")
    assert code == 1
    assert "duplicate-email" in out
    assert refused.username in out
    assert LmsAccount.objects.get(user=created).is_ready
    # Without the other account's address, the repair succeeds.
    system.lms.shell(
        "from django.contrib.auth import get_user_model as g; "
        f"g().objects.filter(email={refused.email!r}).update(email='other@example.org')"
    )
    code, out, _ = run_command("repair_missing_courseware_records", "--user", refused.email)
    assert code == 0, out


@pytest.mark.parametrize("value", ["", "a\udcff"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("reconcile", "--user"),
        ("reconcile", "--dry-run", "--user"),
        ("reconcile", "--run"),
        ("repair_missing_courseware_records", "--user"),
        ("sync_courserun", "--run"),
        ("sync_courseruns", "--run"),
        ("why",),
        ("compare_learner",),
    ],
)
@pytest.mark.django_db
def test_an_empty_or_unreadable_name_is_refused_and_does_not_mean_everything(arguments, value):
    """A script passes an empty value if its variable is not set. Python reads bytes that are not
    UTF-8 as halves of surrogate pairs."""
    messages = r"No learner is called|is not a course key|The course key is empty"
    with pytest.raises(CommandError, match=messages):
        run_command(*arguments, value)


def test_unknown_learners_runs_and_kinds_are_rejected(system):
    with pytest.raises(CommandError, match="nobody"):
        run_command("repair_missing_courseware_records", "--user", "nobody")
    with pytest.raises(CommandError, match="nobody"):
        run_command("reconcile", "--user", "nobody")
    with pytest.raises(CommandError, match="No course run"):
        run_command("reconcile", "--run", "course-v1:a+b+c")
    with pytest.raises(CommandError, match="invalid choice: 'nonsense'"):
        run_command("reconcile", "--kind", "nonsense")


def test_a_dry_run_names_records_that_wait_for_their_next_attempt(system, settings):
    """Between two attempts, no row is due. Nevertheless, the dry run must not report success."""
    enroll(system.learner(), ensure_run(DEMO))
    settings.OPENEDX_SERVICE_WORKER_API_TOKEN = "ended"
    assert run_command("reconcile").code == 1
    code, out, _ = run_command("reconcile", "--dry-run")
    assert code == 1
    assert "… waiting 1 × run: The LMS refuses access (401)" in " ".join(out.split())
    assert "✗ records: 0 would be changed, " in out
    code, out, _ = run_command("reconcile", "--dry-run", "--json")
    assert code == 1
    assert {group["kind"] for group in json.loads(out)["waiting"]} >= {"run"}


@pytest.mark.each_database
def test_drift_finds_differences_until_reconcile_repairs_them(system):
    user = system.learner()
    ensure_account(user)
    course_run = ensure_run(DEMO)
    enroll(user, course_run)
    code, out, _ = run_command("reconcile", "--dry-run", "--json")
    assert json.loads(out)["due"]["enrollment"] == 1
    # The account and the enrollment are not sent yet, and no worker runs.
    code, out, _ = run_command("drift", "--json", "--kind", "account")
    assert code == 1
    assert json.loads(out)["worker"].startswith("No worker has ever run. Start ")
    assert "! No worker has ever run. Start " in run_command("drift", "--kind", "account").out
    # As if a worker had just reported that it runs. since: after how many seconds it is late.
    heartbeat._write(heartbeat.WORKER, since=str(heartbeat.LATE_WATCHING_SECONDS))
    assert "No worker" not in run_command("drift", "--kind", "account").out
    # Reconcile sends both.
    code, out, _ = run_command("reconcile", "--user", user.username, "--json")
    assert code == 0, out
    code, out, _ = run_command("drift", "--kind", "account", "--kind", "enrollment")
    assert (code, out.strip()) == (0, "✓ no differences")
    # The enrollment is ended in the LMS. A recheck finds this and enrolls the learner again.
    system.lms.shell(
        "from usher.embedded.student.models import CourseEnrollment as E; "
        f"E.objects.filter(user__username={user.lms_account.username!r}).update(is_active=False)"
    )
    code, out, _ = run_command("drift", "--json", "--kind", "enrollment")
    data = json.loads(out)
    assert code == 1
    assert data["differences"][0]["field"] == "active"
    code, out, _ = run_command("reconcile", "--recheck", "--kind", "enrollment")
    assert code == 0
    assert run_command("drift", "--kind", "enrollment").code == 0


def test_a_recheck_fails_if_the_list_of_enrollments_cannot_be_read(system, monkeypatch):
    enroll(system.learner(), ensure_run(DEMO))
    assert run_command("reconcile").code == 0

    def refuse(*_, **options):
        raise AccessRefused("The LMS refuses access.", code="token_nonexistent")

    # Only reading the list fails. The rows succeed, as if a worker with a valid token compared
    # them.
    monkeypatch.setattr(LmsClient, "enrollments_of", refuse)
    code, out, _ = run_command("reconcile", "--recheck", "--kind", "enrollment")
    assert code == 1
    assert "✗ failed enrollment list of the LMS: The LMS refuses access." in " ".join(out.split())
    assert out.splitlines()[-1].endswith("0 failed, 1 list not read")


def test_the_error_about_an_unreachable_lms_names_the_setting_of_its_address(system, settings):
    ensure_account(system.learner())
    settings.OPENEDX_API_BASE_URL = UNREACHABLE_URL
    for _ in range(12):  # after some failures, the circuit breaker stops requests
        with pytest.raises(CommandError, match="is OPENEDX_API_BASE_URL its address") as caught:
            run_command("adopt_users", "--by", "email")
    assert isinstance(caught.value.__cause__, CircuitOpen)


def test_a_dry_run_with_an_unreachable_lms_reports_that_it_stopped(system, settings):
    enroll(system.learner(), ensure_run(DEMO))
    code, out, _ = run_command("reconcile", "--dry-run", "--kind", "grade")
    assert (code, out) == (0, "✓ records: 0 would be changed; nothing was changed\n")
    settings.OPENEDX_API_BASE_URL = UNREACHABLE_URL
    code, out, _ = run_command("reconcile", "--dry-run")
    assert code == 1
    assert "✗ stopped Nothing answers at" in " ".join(out.split())
    assert out.splitlines()[-1].startswith("✗ records: ")
    code, out, _ = run_command("reconcile", "--dry-run", "--json")
    assert code == 1
    assert "Nothing answers" in json.loads(out)["stopped"]


def test_commands_report_an_unreachable_lms_without_a_traceback(system, settings):
    settings.OPENEDX_API_BASE_URL = UNREACHABLE_URL
    system.learner()
    code, out, _ = run_command("repair_missing_courseware_records", "--wait", "0")
    assert code == 1
    assert "Nothing answers" in out
    # Known runs and modes are not counted, because none could be compared with the LMS.
    CourseMode.objects.create(run=ensure_run(DEMO), slug="audit")
    code, out, _ = run_command("sync_courseruns")
    assert code == 1
    assert out.startswith("✗ failed  run list of the LMS: ")
    assert out.splitlines()[-1] == (
        "✗ 0 course runs: 0 changed, 0 unchanged, 0 failed, 1 list not read"
    )
    assert "✗ stopped The LMS's list of course runs could not be read" in out
    printed = json.loads(run_command("sync_courseruns", "--json").out)
    assert printed["failed"] == 0
    assert [failure["what"] for failure in printed["failures"]] == ["list of the LMS"]
    assert printed["course_runs"] == {"count": 0, "changed": 0, "unchanged": 0, "failed": 0}
    with pytest.raises(CommandError, match="Nothing answers"):
        run_command("drift")


@pytest.mark.each_database
def test_rotate_encryption_keys_counts_the_tokens_it_changed(system):
    ensure_account(system.learner(), reconcile_now=True)
    code, out, _ = run_command("rotate_encryption_keys")
    assert (code, out.strip()) == (0, "✓ tokens: 1 changed, 0 unchanged, 0 failed")


@pytest.mark.parametrize(
    "arguments",
    [
        ("reconcile", "--kind", "foo", "--skip-checks"),
        ("sync_courserun", "--run", "no key " * 12, "--skip-checks"),
        ("why", "nobody" * 10),
    ],
)
def test_error_messages_fit_a_terminal_of_80_columns(db, capsys, arguments):
    with pytest.raises(SystemExit):
        ManagementUtility(["manage.py", *arguments]).execute()
    lines = capsys.readouterr().err.splitlines()
    # "CommandError: " or, for unknown options, argparse's "error: ".
    error_line = next(number for number, line in enumerate(lines) if "rror: " in line)
    assert len(lines) > error_line + 1, "the message is wrapped"
    assert [line for line in lines[error_line:] if len(line) > 80] == []


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("why", "nobody"), 1, "No learner is called 'nobody'."),
        (("reconcile", "--kind", "foo", "--skip-checks"), 2, "invalid choice: 'foo'"),
    ],
)
def test_an_error_is_a_json_object_if_json_is_wanted(db, capsys, arguments, code, error):
    with pytest.raises(SystemExit) as ended:
        ManagementUtility(["manage.py", *arguments, "--json"]).execute()
    assert ended.value.code == code
    data = json.loads(capsys.readouterr().out)
    assert data["ok"] is False
    assert error in data["error"]
    assert "\n" not in data["error"]


class InterruptedAtFirstOutput(io.StringIO):
    """A stream that sends Ctrl-C to this process at the first write."""

    def write(self, text: str) -> int:
        if not self.getvalue():
            os.kill(os.getpid(), signal.SIGINT)
        return super().write(text)


@pytest.mark.parametrize(
    ("arguments", "records"),
    [
        ((), "for due records"),
        (("--kind", "account", "--kind", "token"), "for due records of kind account, token"),
        (("--user", "ada@new.example"), "for due records of ada"),
    ],
)
def test_watch_first_prints_its_records_its_interval_and_how_to_stop_it(system, arguments, records):
    get_user_model().objects.create_user("ada", "ada@new.example")
    out = InterruptedAtFirstOutput()
    call_command("reconcile", "--watch", *arguments, stdout=out)
    lms = get_settings().api_base_url
    target = f"sends them to the LMS at {lms}"
    expected = f"… watching {records}; {target}. Looks every second; Ctrl-C stops it."
    assert " ".join(out.getvalue().split()) == expected
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_watch_with_json_prints_no_text(system, monkeypatch):
    """A fake replaces ``watch``, which would run for ever."""
    monkeypatch.setattr("usher.engine.services.watch", lambda *_, **options: None)
    assert run_command("reconcile", "--watch", "--json") == (0, "", "")


def test_the_message_about_ctrl_c_begins_on_a_new_line(monkeypatch):
    """A terminal prints ``^C`` when somebody presses Ctrl-C."""

    class InterruptedCommand(EngineCommand):
        def act(self, **options):
            raise KeyboardInterrupt

    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", screen)
    with pytest.raises(CommandError, match="Interrupted: nothing is lost") as interruption:
        call_command(InterruptedCommand())
    assert interruption.value.returncode == 130  # the shell's exit code after Ctrl-C
    assert screen.getvalue() == "\n"
