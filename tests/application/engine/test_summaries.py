"""The summary of a pass: the command's last lines, and the log."""

import json
import logging
import re
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from allauth.account.models import EmailAddress
from django.core.management import call_command
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from campus.logs import without_secrets
from tests.application.conftest import UNREACHABLE_URL
from tests.application.engine.test_made_due import watching_worker
from tests.support import faults
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.repair import repair
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll
from usher.application.lms.refusals import RefusalLog
from usher.application.runs.services import ensure_run
from usher.application.tokens.models import LmsToken
from usher.client import tracing
from usher.client.errors import CircuitOpen, NotThere, Refused, Unreachable
from usher.engine import services
from usher.engine.clock import database_now
from usher.engine.kinds import Outcome
from usher.engine.policy import EARLY_ATTEMPTS, retry_plan
from usher.engine.services import reconcile
from usher.engine.summary import Group

DEMO = "course-v1:edX+DemoX+Demo_Course"


def test_rows_processed_by_another_worker_are_counted(system, monkeypatch):
    """Another worker processes the rows after they were made due and before this pass ends."""
    for _ in range(5):
        ensure_account(system.learner())
    made_due = services.recheck(["account", "token"])
    assert made_due.rows == 10
    reconcile(["account", "token"])
    summary = reconcile(["account", "token"], made_due=made_due)
    assert summary.failed == 0
    assert summary.by_others == 10
    assert "10 done by another worker" in summary.line()
    assert summary.as_dict()["by_others"] == 10


def test_a_repair_while_a_worker_runs_reports_its_results_within_seconds(system):
    with watching_worker("account", "token"):
        for _ in range(5):
            users = [system.learner("other") for _ in range(3)]
            began = time.monotonic()
            summary = repair(wait=30)
            assert summary.failed == 0
            assert summary.changed + summary.unchanged + summary.by_others >= len(users)
            assert time.monotonic() - began < 20
            ready = LmsAccount.objects.filter(user__in=users, created_in_lms_at__isnull=False)
            assert ready.count() == len(users)


def test_a_pass_of_a_kind_is_a_span_that_contains_its_requests(system, monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_TRACER", provider.get_tracer("usher"))
    learner = system.learner()
    enroll(learner, ensure_run("course-v1:No+Such+Run"))
    reconcile(["account", "enrollment"])
    spans = exporter.get_finished_spans()
    accounts, enrollments = (
        next(span for span in spans if span.name == f"reconcile {kind}")
        for kind in ("account", "enrollment")
    )
    # The account was created, and the enrollment refused.
    assert accounts.attributes["usher.changed"] == 1
    assert (enrollments.attributes["usher.failed"], enrollments.status.is_ok) == (1, False)
    spans_of_accounts = [
        span for span in spans if span.parent and span.parent.span_id == accounts.context.span_id
    ]
    assert any(span.name == "LMS POST registration" for span in spans_of_accounts)
    assert all(learner.username not in span.to_json() for span in spans)


def test_waiting_rows_are_reported_with_their_reason_and_the_command_fails(system, capsys):
    for _ in range(3):
        ensure_account(system.learner())
    later = database_now() + timedelta(seconds=300)
    LmsAccount.objects.set_work(
        error_class="systemic",
        error_code="access-refused",
        error_message="The LMS refuses the service worker's token.",
        attempts=2,
        due_at=later,
    )
    with pytest.raises(SystemExit) as command_exit:
        call_command("reconcile", "--kind", "account")
    assert command_exit.value.code == 1
    output = capsys.readouterr().out
    assert "… waiting 3 × account: The LMS refuses the service worker's token." in output
    assert "✗ stopped The LMS refuses the service worker's token." in output
    assert "0 changed, 0 unchanged, 0 failed, 3 waiting" in output
    # Refused rows do not wait, and the command succeeds.
    LmsAccount.objects.set_work(refused_at=database_now(), due_at=None)
    call_command("reconcile", "--kind", "account")
    output = capsys.readouterr().out
    assert "– refused 3 × account: The LMS refuses the service worker's token." in output
    assert "3 refused before" in output


def make_unconfirmed_learner(system):
    """A learner whose requested account and enrollment wait for the confirmation of the address."""
    user = system.learner()
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=False)
    ensure_account(user)
    enroll(user, ensure_run(DEMO))
    return user


@pytest.mark.parametrize(
    "command",
    [
        ("reconcile",),
        ("reconcile", "--recheck", "--kind", "account", "--kind", "enrollment"),
        ("reconcile", "--dry-run"),
        ("repair_missing_courseware_records", "--wait", "0"),
    ],
)
def test_a_command_succeeds_if_a_learner_waits_for_confirmation(system, capsys, command):
    make_unconfirmed_learner(system)
    reconcile()
    call_command(*command)  # exit code 0
    output = capsys.readouterr().out
    assert "… waiting 1 × account: Not sent. The e-mail address is not confirmed." in output
    assert "✗" not in output
    call_command(*command, "--json")
    data = json.loads(capsys.readouterr().out)
    assert (data["failed"], data["failures"], data["stopped"]) == (0, [], "")
    assert ("account", "unconfirmed", 1) in {
        (group["kind"], group["code"], group["count"]) for group in data["waiting"]
    }


def test_a_command_succeeds_with_rows_that_wait_for_a_retry_unless_the_lms_is_down(
    system, capsys, settings
):
    ensure_account(system.learner())
    later = database_now() + timedelta(seconds=300)
    LmsAccount.objects.set_work(
        error_class="transient", error_code="server-error", attempts=2, due_at=later
    )
    call_command("reconcile", "--kind", "account")
    assert "✓ records: 0 changed, 0 unchanged, 0 failed, 1 waiting" in capsys.readouterr().out
    settings.OPENEDX_API_BASE_URL = UNREACHABLE_URL
    with pytest.raises(SystemExit) as command_exit:
        call_command("reconcile", "--kind", "account")
    assert command_exit.value.code == 1
    assert "✗ stopped Nothing answers at" in capsys.readouterr().out


def test_rows_wait_without_an_attempt_while_the_lms_limits_requests(system, faulty):
    user = system.learner()
    ensure_account(user)
    faulty.break_next(faults.THROTTLED, times=50)
    summary = reconcile(["account"], user=user)
    assert (summary.failed, [group.code for group in summary.waiting]) == (0, ["throttled"])
    assert "1 waiting" in summary.line()
    assert LmsAccount.objects.get().attempts == 0


def test_a_row_that_failed_in_this_pass_is_not_also_reported_as_waiting(system, settings, capsys):
    ensure_account(system.learner())
    settings.OPENEDX_API_BASE_URL = UNREACHABLE_URL
    with pytest.raises(SystemExit):
        call_command("reconcile", "--kind", "account")
    output = capsys.readouterr().out
    assert output.count("account") == 1, output
    assert "1 failed" in output
    assert "waiting" not in output


def test_each_pass_with_changes_and_each_outage_is_logged_once(system, caplog, settings):
    caplog.set_level(logging.INFO, logger="usher.engine")
    user, run = system.learner(), ensure_run(DEMO)
    reconcile()
    caplog.clear()
    reconcile()
    assert caplog.messages == [], "nothing was due"
    # An outage of three passes: the LMS refuses the service worker's token.
    enroll(user, run)
    valid_token = settings.OPENEDX_SERVICE_WORKER_API_TOKEN
    settings.OPENEDX_SERVICE_WORKER_API_TOKEN = "wrong"
    ensure_account(user, reconcile_now=True)
    caplog.clear()
    for _ in range(3):
        Enrollment.objects.all().make_due()
        services.open_gates(["enrollment"])
        reconcile(["enrollment"])
    assert sum("enrollment stopped" in message for message in caplog.messages) == 1
    # The outage ends, and the pass changes the enrollment.
    settings.OPENEDX_SERVICE_WORKER_API_TOKEN = valid_token
    Enrollment.objects.all().make_due()
    services.open_gates(["enrollment"])
    reconcile(["enrollment"])
    assert sum("enrollment resumed after" in message for message in caplog.messages) == 1
    assert "reconciled: 1 changed, 0 unchanged, 0 failed" in caplog.messages


def test_each_new_refusal_is_logged_once_without_the_lms_s_message(system, caplog):
    caplog.set_level(logging.INFO, logger="usher.refusals")
    user = system.learner()
    row = enroll(user, ensure_run("course-v1:edX+Nowhere+9"), reconcile_now=True)
    (record,) = [record for record in caplog.records if record.name == "usher.refusals"]
    line = record.getMessage()
    assert "refused" in line
    assert user.lms_account.username in line
    assert row.error_code in line
    assert row.error_message not in line
    assert without_secrets(None, "warning", dict(record.msg))["reason"] == row.error_code
    assert re.fullmatch("[0-9a-f]{16,}", record.msg["request_id"])
    Enrollment.objects.filter(pk=row.pk).compare_again()  # compared with the LMS, and refused again
    reconcile(["enrollment"])
    assert sum(record.name == "usher.refusals" for record in caplog.records) == 1


def test_secrets_and_line_breaks_that_the_lms_repeats_are_not_logged(caplog):
    caplog.set_level(logging.INFO, logger="usher.refusals")
    job = SimpleNamespace(display_name="ada\nfake: line", row=SimpleNamespace(refused_at=None))
    error = Refused("the token s3cret-t0ken is wrong", code="wrong\ncode")
    RefusalLog().written("token", [(job, Outcome(error=error))])
    (line,) = [record.getMessage() for record in caplog.records if record.name == "usher.refusals"]
    assert "s3cret" not in line
    assert "\nfake" not in line
    assert "wrong\ncode" not in line


# An LMS that fails three requests in ten


def test_the_early_attempts_take_less_than_two_minutes():
    unreachable = Unreachable("gone")
    longest_time = sum(
        max(retry_plan(unreachable, attempts).delay for _ in range(200))  # delays are random
        for attempts in range(EARLY_ATTEMPTS)
    )
    assert longest_time < 120


def test_late_attempts_are_more_than_half_an_hour_apart():
    half_an_hour = 1800
    assert retry_plan(Unreachable("gone"), attempts=12).delay > half_an_hour


def test_a_row_for_which_no_request_can_be_sent_is_refused_and_not_retried():
    """Such as a row of a course run whose key no path of the LMS can contain."""
    error = NotThere("'no-key' is not the key of a course run")
    error.was_sent = False
    plan = retry_plan(error, attempts=0)
    assert (plan.delay, plan.is_counted) == (None, True)


def test_a_request_that_an_open_circuit_breaker_stopped_does_not_count_as_an_attempt():
    assert not retry_plan(CircuitOpen("open", retry_after=5.0), attempts=3).is_counted


def test_a_token_is_obtained_in_one_attempt_in_spite_of_failed_sign_ins(system, faulty):
    user = system.learner()
    ensure_account(user, reconcile_now=True)
    # The token was lost, and a new one is desired.
    LmsToken.objects.update(access_token="", refresh_token="", expires_at=None, generation=2)
    LmsToken.objects.all().make_due()
    faulty.break_next(faults.RESET, path="/auth/complete", times=4)
    assert reconcile(["token"], user=user).changed == 1
    assert LmsToken.objects.get().attempts == 0


def test_waiting_rows_beyond_the_remembered_rows_are_only_counted(monkeypatch):
    monkeypatch.setattr(services, "_MAX_REMEMBERED", 2)
    waiting = services._WaitingRows()
    for number in range(4):
        group = Group("account", count=1, code="not-confirmed", message="waits", due_in=60.0)
        waiting.add(("account", number), group)
    # Only the two remembered rows can be removed from the counts.
    for number in range(4):
        waiting.remove(("account", number))
    assert [(group.code, group.count) for group in waiting.groups()] == [("not-confirmed", 2)]
    assert waiting.count == 2
    assert not waiting.rows
