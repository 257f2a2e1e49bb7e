"""``/metrics``: its contents, who may read it, and sums over all processes."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll
from usher.application.lms_client import client
from usher.application.metrics import collector, conditions
from usher.application.metrics import recorder as recording
from usher.application.metrics.models import MetricValue
from usher.application.metrics.recorder import Recorder
from usher.application.runs.models import CourseRun
from usher.application.runs.services import ensure_run
from usher.contract import metrics
from usher.contract.paths import ApplicationPath
from usher.engine import services
from usher.engine.gate import Gate
from usher.engine.models import Watermark
from usher.engine.services import reconcile
from usher.engine.work import Work

TOKEN = "a-token-for-prometheus"
DEMO = "course-v1:edX+DemoX+Demo_Course"


@pytest.fixture(autouse=True)
def empty_recorder(monkeypatch):
    """Forgets the counts of earlier tests, and makes the next pass read the LMS's pauses."""
    recording.recorder.forget()
    monkeypatch.setattr(conditions, "_read_at", -conditions._SECONDS_BETWEEN_READS)


@pytest.fixture
def scrape(settings):
    """A function that reads the metrics. It returns (name, labels as a sorted tuple) → value."""
    settings.USHER_METRICS_TOKEN = TOKEN

    def scrape():
        answer = get_metrics(f"Bearer {TOKEN}")
        assert answer.status_code == 200, answer.content
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.content.decode())
            for sample in family.samples
        }

    return scrape


def get_metrics(authorization="", **meta):
    """Requests ``/metrics``. meta: values of ``request.META``, such as ``REMOTE_ADDR``."""
    headers = {"Authorization": authorization} if authorization else {}
    return Client(raise_request_exception=True).get(
        ApplicationPath.METRICS, headers=headers, **meta
    )


def value(samples, metric, **labels):
    """The value of the metric with these labels; None if there is none."""
    return samples.get((metric.name, tuple(sorted(labels.items()))))


# Access


def test_metrics_are_forbidden_without_a_setting_that_allows_access(db):
    answer = get_metrics()
    assert answer.status_code == 403
    assert "USHER_METRICS_TOKEN" in answer.content.decode()
    assert "usher_due_rows" not in answer.content.decode()


@pytest.mark.parametrize("authorization", ["", "Bearer wrong", f"Basic {TOKEN}", "Bearer ", TOKEN])
def test_a_wrong_token_is_refused(db, settings, authorization):
    settings.USHER_METRICS_TOKEN = TOKEN
    answer = get_metrics(authorization)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert TOKEN not in answer.content.decode()


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("10.1.2.3", {}, 200),
        ("::ffff:10.1.2.3", {}, 200),
        ("192.0.2.9", {}, 403),
        ("nonsense", {}, 403),
        # A proxy in an allowed network forwards the request of somebody outside.
        ("10.1.2.3", {"HTTP_X_FORWARDED_FOR": "192.0.2.9"}, 403),
        ("10.1.2.3", {"HTTP_X_FORWARDED_FOR": "10.1.2.3"}, 403),
        ("10.1.2.3", {"HTTP_FORWARDED": "for=192.0.2.9"}, 403),
    ],
)
def test_clients_in_an_allowed_network_may_read_the_metrics(db, settings, address, headers, status):
    settings.USHER_METRICS_NETWORKS = "127.0.0.0/8, 10.0.0.0/8"
    assert get_metrics(REMOTE_ADDR=address, **headers).status_code == status


def test_the_client_s_address_is_read_from_the_configured_header(db, settings):
    settings.USHER_METRICS_NETWORKS = ["10.0.0.0/8"]
    settings.USHER_CLIENT_ADDRESS_HEADER = "X-Real-IP"
    assert get_metrics(REMOTE_ADDR="10.0.0.1", HTTP_X_REAL_IP="192.0.2.9").status_code == 403
    assert get_metrics(REMOTE_ADDR="10.0.0.1", HTTP_X_REAL_IP="10.2.3.4").status_code == 200


# Contents


def test_every_metric_is_exported_under_its_name_and_no_other(db, scrape):
    families = {family.name: family for family in collector.registry().collect()}
    exported_names = {
        f"{name}_total" if family.type == "counter" else name for name, family in families.items()
    }
    assert exported_names == {metric.name for metric in metrics.ALL}
    for metric in metrics.ALL:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.type, metric.help)
    assert scrape()


def test_counters_are_exported_before_their_first_event(db, scrape):
    """Counters start at 0, because Prometheus sees no increase in a series that begins at 500."""
    samples = scrape()
    assert value(samples, metrics.WEBHOOKS, result="refused") == 0
    assert value(samples, metrics.OUTCOMES, kind="enrollment", outcome="rejected") == 0
    assert value(samples, metrics.PASSES) == 0
    assert samples["usher_settle_seconds_count", (("kind", "enrollment"),)] == 0
    assert samples["usher_batch_rows_sum", (("kind", "account"),)] == 0
    assert samples["usher_webhook_lag_seconds_bucket", (("le", "+Inf"),)] == 0
    for result in ("2xx", "5xx", "timed-out", "no-connection"):
        labels = (("group", "enrollment"), ("result", result))
        assert samples["usher_lms_request_seconds_count", labels] == 0


def test_a_pass_is_measured_in_due_rows_outcomes_times_and_requests(system, scrape):
    user, run = system.learner(), ensure_run(DEMO)
    enroll(user, run)
    enroll(user, ensure_run("course-v1:edX+Nowhere+1"))
    # Before the pass, two rows are due.
    samples = scrape()
    assert value(samples, metrics.DUE, kind="enrollment") == 2
    assert value(samples, metrics.OLDEST_DUE, kind="enrollment") > 0
    wanted_at = Enrollment.objects.get(run=run).wanted_at
    # The pass changes one row, and the LMS refuses the other.
    reconcile()
    samples = scrape()
    seconds = (timezone.now() - wanted_at).total_seconds()
    assert value(samples, metrics.DUE, kind="enrollment") == 0
    assert value(samples, metrics.OUTCOMES, kind="enrollment", outcome="changed") == 1
    assert value(samples, metrics.OUTCOMES, kind="enrollment", outcome="rejected") == 1
    code = Enrollment.objects.get(work__refused_at__isnull=False).error_code
    assert value(samples, metrics.REFUSED, kind="enrollment", code=code) == 1
    kind = ("kind", "enrollment")
    assert samples[metrics.SETTLE.name + "_count", (kind,)] == 1
    assert 0 < samples[metrics.SETTLE.name + "_sum", (kind,)] <= seconds
    group, result = ("group", "enrollment"), ("result", "2xx")
    assert samples[metrics.REQUEST.name + "_count", (group, result)] >= 1
    assert samples[metrics.REQUEST.name + "_bucket", (group, ("le", "+Inf"), result)] >= 1
    assert value(samples, metrics.PASSES) == 1
    # Retrying a row that is in sync does not count as a change of the desired state.
    Enrollment.objects.filter(run=run).make_due()
    reconcile()
    samples = scrape()
    assert samples[metrics.SETTLE.name + "_count", (kind,)] == 1
    assert value(samples, metrics.OUTCOMES, kind="enrollment", outcome="unchanged") == 1


def test_the_number_of_rows_of_a_batch_request_is_measured(system_with_batch_api, scrape):
    for _ in range(3):
        enroll(system_with_batch_api.learner(), ensure_run(DEMO))
    reconcile()
    samples = scrape()
    labels = (("kind", "account"),)
    assert samples[metrics.BATCH_ROWS.name + "_sum", labels] == 3
    assert samples[metrics.BATCH_ROWS.name + "_count", labels] == 1
    assert samples[metrics.REQUEST.name + "_count", (("group", "batch"), ("result", "2xx"))] >= 2


def test_the_metrics_show_a_closed_gate_until_it_opens(system, scrape):
    gate = Gate("account", client().http.state)
    gate.close()
    reconcile(["token"])
    samples = scrape()
    assert value(samples, metrics.GATE_CLOSED, kind="account") == 1
    assert value(samples, metrics.GATE_CLOSED, kind="enrollment") == 0
    gate.open()
    conditions._read_at = -conditions._SECONDS_BETWEEN_READS  # so that the next pass reads again
    reconcile(["token"])
    assert value(scrape(), metrics.GATE_CLOSED, kind="account") == 0


def test_a_process_exports_the_pauses_that_another_process_recorded(system, scrape):
    from tests.application.conftest import forget_clients

    client().http.state.pause("group:enrollment", 100.0)
    reconcile()
    forget_clients()  # like the web process, which does not share the worker's memory
    assert client().http.state.remaining("group:enrollment") == 0
    samples = scrape()
    assert 90 < value(samples, metrics.THROTTLED, group="enrollment") <= 100
    assert value(samples, metrics.THROTTLED, group="courses") == 0


def test_a_sweep_measures_the_overdue_messages_in_the_lms_s_outbox(system_with_batch_api, scrape):
    system_with_batch_api.lms.shell(
        "from usher.lms.connections.models import ConnectedApplication as A; "
        "from usher.lms.events.models import Message as M; from django.utils import timezone as t; "
        "application = A.objects.get(); M.objects.all().delete(); "
        "M.objects.create(application=application, type='account.changed', username='x'); "
        "overdue = M.objects.create(application=application, type='account.changed', "
        "username='y', next_attempt_at=t.now() + t.timedelta(hours=1)); "
        "M.objects.filter(pk=overdue.pk).update(created=t.now() - t.timedelta(hours=2))"
    )
    services.prepare_sweep()
    samples = scrape()
    assert value(samples, metrics.OUTBOX) == 1
    two_hours = 7200
    assert two_hours - 10 < value(samples, metrics.OUTBOX_OLDEST) < two_hours + 200
    assert value(samples, metrics.ASKED, what="enrollments") > time.time() - 60


def test_the_time_of_the_last_sweep_is_exported(system, scrape):
    assert value(scrape(), metrics.SWEPT) is None
    began_at = time.time()
    services.prepare_sweep()
    assert began_at - 1 < value(scrape(), metrics.SWEPT) <= time.time() + 1


def test_only_watermarks_of_reads_from_the_lms_are_exported(db, scrape):
    Watermark.objects.create(name="digest", asked_at=timezone.now())
    Watermark.objects.create(name="accounts", asked_at=timezone.now())
    samples = scrape()
    assert value(samples, metrics.ASKED, what="accounts") is not None
    assert value(samples, metrics.ASKED, what="digest") is None


# Sums over all processes


def test_the_counts_of_concurrent_processes_are_added(transactional_db, scrape):
    def work(_number):
        recorder = Recorder()  # each process has its own
        for _ in range(10):
            recorder.count(metrics.OUTCOMES, "enrollment", "changed")
            recorder.observe(metrics.SETTLE, "enrollment", value=3.0)
            recorder.observe(metrics.SETTLE, "account", value=1e9)  # above all buckets
            recorder.flush()
        connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        # ``list`` waits for the threads, and raises their exceptions.
        list(pool.map(work, range(4)))
    samples = scrape()
    assert value(samples, metrics.OUTCOMES, kind="enrollment", outcome="changed") == 40
    kind = ("kind", "enrollment")
    assert samples[metrics.SETTLE.name + "_sum", (kind,)] == 120
    assert samples[metrics.SETTLE.name + "_bucket", (kind, ("le", "2.5"))] == 0
    assert samples[metrics.SETTLE.name + "_bucket", (kind, ("le", "5.0"))] == 40
    assert samples[metrics.SETTLE.name + "_bucket", (("kind", "account"), ("le", "+Inf"))] == 40
    assert samples[metrics.SETTLE.name + "_bucket", (("kind", "account"), ("le", "86400.0"))] == 0


def test_a_forked_process_starts_with_empty_counts(db):
    recording.recorder.count(metrics.PASSES)
    read_end, write_end = os.pipe()
    # The child writes to the pipe how many counts its recorder has.
    if child := os.fork():
        os.waitpid(child, 0)
        assert os.read(read_end, 10) == b"0"
        return
    os.write(write_end, str(len(recording.recorder._added)).encode())
    os._exit(0)


def test_counts_are_kept_until_they_can_be_written(db, monkeypatch):
    recorder, write = Recorder(), recording._write

    def fail(*_):
        raise DatabaseError("the disk is full")

    recorder.count(metrics.PASSES, by=2)
    monkeypatch.setattr(recording, "_write", fail)
    recorder.flush()
    recorder.count(metrics.PASSES)
    monkeypatch.setattr(recording, "_write", write)
    recorder.flush()
    recorder.flush()  # has nothing left to write
    row = MetricValue.objects.get(name=metrics.PASSES.name)
    assert (row.value, json.loads(row.labels)) == (3, [])


# The cost of a scrape


def test_a_scrape_uses_indexes_of_the_work_queue_and_reads_no_records(db, scrape):
    tomorrow = timezone.now() + timedelta(days=1)
    waiting = [Work(kind="enrollment", object_id=pk, due_at=tomorrow) for pk in range(5000)]
    refused = [Work(kind="run", object_id=pk, refused_at=timezone.now()) for pk in range(3)]
    Work.objects.bulk_create(waiting + refused)
    # With the statistics of so many rows, the database prefers an index.
    table = Work._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {table}")
    with CaptureQueriesContext(connection) as queries:
        samples = scrape()
    assert value(samples, metrics.REFUSED, kind="run", code="") == 3
    # No statement reads the records, and none scans the whole queue.
    statements = [query["sql"] for query in queries.captured_queries]
    assert not [sql for sql in statements if f'"{CourseRun._meta.db_table}"' in sql]
    statements_about_runs = [sql for sql in statements if table in sql and "'run'" in sql]
    assert len(statements_about_runs) == 3, "all statements about this kind are examined"
    for sql in statements_about_runs:
        explain = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
        with connection.cursor() as cursor:
            cursor.execute(f"{explain} {sql}")
            plan = "\n".join(str(row) for row in cursor.fetchall())
        assert "Seq Scan" not in plan, plan
        # In SQLite's plan, the name of an index would follow the table's name before the quote.
        assert f"SCAN {table}'" not in plan, plan
