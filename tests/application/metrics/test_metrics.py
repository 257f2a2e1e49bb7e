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
def nothing_counted(monkeypatch):
    recording.recorder.forget()
    monkeypatch.setattr(conditions, "_read_at", -conditions._SECONDS_BETWEEN_READS)


@pytest.fixture
def scrape(settings):
    """The samples of one scrape: (name, labels as a sorted tuple) → value."""
    settings.USHER_METRICS_TOKEN = TOKEN

    def scrape():
        answer = get(f"Bearer {TOKEN}")
        assert answer.status_code == 200, answer.content
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.content.decode())
            for sample in family.samples
        }

    return scrape


def get(authorization="", **meta):
    headers = {"Authorization": authorization} if authorization else {}
    return Client(raise_request_exception=True).get(
        ApplicationPath.METRICS, headers=headers, **meta
    )


def value(samples, metric, **labels):
    return samples.get((metric.name, tuple(sorted(labels.items()))))


# Access


def test_metrics_are_closed_until_a_setting_opens_them(db):
    answer = get()
    assert answer.status_code == 403
    assert "USHER_METRICS_TOKEN" in answer.content.decode()
    assert "usher_due_rows" not in answer.content.decode()


@pytest.mark.parametrize("given", ["", "Bearer wrong", f"Basic {TOKEN}", "Bearer ", TOKEN])
def test_a_wrong_token_is_refused(db, settings, given):
    settings.USHER_METRICS_TOKEN = TOKEN
    answer = get(given)
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
def test_a_network_may_read_the_metrics(db, settings, address, headers, status):
    settings.USHER_METRICS_NETWORKS = "127.0.0.0/8, 10.0.0.0/8"
    assert get(REMOTE_ADDR=address, **headers).status_code == status


def test_behind_a_proxy_the_address_is_read_from_the_proxy_s_header(db, settings):
    settings.USHER_METRICS_NETWORKS = ["10.0.0.0/8"]
    settings.USHER_CLIENT_ADDRESS_HEADER = "X-Real-IP"
    assert get(REMOTE_ADDR="10.0.0.1", HTTP_X_REAL_IP="192.0.2.9").status_code == 403
    assert get(REMOTE_ADDR="10.0.0.1", HTTP_X_REAL_IP="10.2.3.4").status_code == 200


# Contents


def test_every_metric_is_exported_under_its_name_and_no_other(db, scrape):
    families = {family.name: family for family in collector.registry().collect()}
    assert {name + "_total" * (f.type == "counter") for name, f in families.items()} == {
        metric.name for metric in metrics.ALL
    }
    for metric in metrics.ALL:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.type, metric.help)
    assert scrape()


def test_counters_are_there_before_they_are_counted(db, scrape):
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


def test_the_time_from_the_desired_state_to_the_lms_is_measured(system, scrape):
    user, run = system.learner(), ensure_run(DEMO)
    enroll(user, run)
    enroll(user, ensure_run("course-v1:edX+Nowhere+1"))
    before = scrape()
    assert value(before, metrics.DUE, kind="enrollment") == 2
    assert value(before, metrics.OLDEST_DUE, kind="enrollment") > 0
    wanted = Enrollment.objects.get(run=run).wanted_at
    reconcile()
    after = scrape()
    seconds = (timezone.now() - wanted).total_seconds()
    assert value(after, metrics.DUE, kind="enrollment") == 0
    assert value(after, metrics.OUTCOMES, kind="enrollment", outcome="changed") == 1
    assert value(after, metrics.OUTCOMES, kind="enrollment", outcome="rejected") == 1
    code = Enrollment.objects.get(work__refused_at__isnull=False).error_code
    assert value(after, metrics.REFUSED, kind="enrollment", code=code) == 1
    settled = (("kind", "enrollment"),)
    assert after[metrics.SETTLE.name + "_count", settled] == 1
    assert 0 < after[metrics.SETTLE.name + "_sum", settled] <= seconds
    asked = (("group", "enrollment"), ("result", "2xx"))
    assert after[metrics.REQUEST.name + "_count", asked] >= 1
    assert after[metrics.REQUEST.name + "_bucket", (*asked[:1], ("le", "+Inf"), *asked[1:])] >= 1
    assert value(after, metrics.PASSES) == 1
    # Retrying a row that is in sync does not count as a change of the desired state.
    Enrollment.objects.filter(run=run).make_due()
    reconcile()
    samples = scrape()
    assert samples[metrics.SETTLE.name + "_count", settled] == 1
    assert value(samples, metrics.OUTCOMES, kind="enrollment", outcome="unchanged") == 1


def test_a_request_of_several_rows_is_measured(system_with_batch_api, scrape):
    for _ in range(3):
        enroll(system_with_batch_api.learner(), ensure_run(DEMO))
    reconcile()
    samples = scrape()
    rows = (("kind", "account"),)
    assert samples[metrics.BATCH_ROWS.name + "_sum", rows] == 3
    assert samples[metrics.BATCH_ROWS.name + "_count", rows] == 1
    assert samples[metrics.REQUEST.name + "_count", (("group", "batch"), ("result", "2xx"))] >= 2


def test_a_kind_that_is_stopped_is_seen_and_seen_to_go_on(system, scrape):
    gate = Gate("account", client().http.state)
    gate.close()
    reconcile(["token"])
    samples = scrape()
    assert value(samples, metrics.GATE_CLOSED, kind="account") == 1
    assert value(samples, metrics.GATE_CLOSED, kind="enrollment") == 0
    gate.open()
    conditions._read_at = -conditions._SECONDS_BETWEEN_READS
    reconcile(["token"])
    assert value(scrape(), metrics.GATE_CLOSED, kind="account") == 0


def test_any_process_reports_what_the_workers_saw(system, scrape):
    from tests.application.conftest import forget_clients

    client().http.state.pause("group:enrollment", 100.0)
    reconcile()
    forget_clients()  # like the web process, which does not share the worker's memory
    assert client().http.state.remaining("group:enrollment") == 0
    samples = scrape()
    assert 90 < value(samples, metrics.THROTTLED, group="enrollment") <= 100
    assert value(samples, metrics.THROTTLED, group="courses") == 0


def test_the_sweep_reads_how_many_messages_wait_in_the_lms_s_outbox(system_with_batch_api, scrape):
    system_with_batch_api.lms.shell(
        "from usher.lms.connections.models import ConnectedApplication as A; "
        "from usher.lms.events.models import Message as M; from django.utils import timezone as t; "
        "a = A.objects.get(); M.objects.all().delete(); "
        "M.objects.create(application=a, type='account.changed', username='x'); "
        "m = M.objects.create(application=a, type='account.changed', username='y', "
        "next_attempt_at=t.now() + t.timedelta(hours=1)); "
        "M.objects.filter(pk=m.pk).update(created=t.now() - t.timedelta(hours=2))"
    )
    services.sweep_prepare()
    samples = scrape()
    assert value(samples, metrics.OUTBOX) == 1
    assert 7190 < value(samples, metrics.OUTBOX_OLDEST) < 7400
    assert value(samples, metrics.ASKED, what="enrollments") > time.time() - 60


def test_sweeps_and_workers_are_seen(system, scrape):
    assert value(scrape(), metrics.SWEPT) is None
    before = time.time()
    services.sweep_prepare()
    assert before - 1 < value(scrape(), metrics.SWEPT) <= time.time() + 1


def test_a_mark_that_is_not_about_the_lms_is_no_request_to_it(db, scrape):
    Watermark.objects.create(name="digest", asked_at=timezone.now())
    Watermark.objects.create(name="accounts", asked_at=timezone.now())
    samples = scrape()
    assert value(samples, metrics.ASKED, what="accounts") is not None
    assert value(samples, metrics.ASKED, name="digest") is None


# Sums over all processes


def test_processes_add_up(transactional_db, scrape):
    def work(_number):
        mine = Recorder()
        for _ in range(10):
            mine.count(metrics.OUTCOMES, "enrollment", "changed")
            mine.observe(metrics.SETTLE, "enrollment", value=3.0)
            mine.observe(metrics.SETTLE, "account", value=1e9)
            mine.flush()
        connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    samples = scrape()
    assert value(samples, metrics.OUTCOMES, kind="enrollment", outcome="changed") == 40
    kind = ("kind", "enrollment")
    assert samples[metrics.SETTLE.name + "_sum", (kind,)] == 120
    assert samples[metrics.SETTLE.name + "_bucket", (kind, ("le", "2.5"))] == 0
    assert samples[metrics.SETTLE.name + "_bucket", (kind, ("le", "5.0"))] == 40
    assert samples[metrics.SETTLE.name + "_bucket", (("kind", "account"), ("le", "+Inf"))] == 40
    assert samples[metrics.SETTLE.name + "_bucket", (("kind", "account"), ("le", "86400.0"))] == 0


def test_a_forked_process_does_not_count_again_what_its_parent_writes(db):
    recording.recorder.count(metrics.PASSES)
    read, write = os.pipe()
    if child := os.fork():
        os.waitpid(child, 0)
        assert os.read(read, 10) == b"0"
        return
    os.write(write, str(len(recording.recorder._added)).encode())
    os._exit(0)


def test_counts_that_can_not_be_written_are_kept(db, monkeypatch):
    mine, write = Recorder(), recording._write

    def fails(*_):
        raise DatabaseError("the disk is full")

    mine.count(metrics.PASSES, by=2)
    monkeypatch.setattr(recording, "_write", fails)
    mine.flush()
    mine.count(metrics.PASSES)
    monkeypatch.setattr(recording, "_write", write)
    mine.flush()
    mine.flush()
    value_row = MetricValue.objects.get(name=metrics.PASSES.name)
    assert (value_row.value, json.loads(value_row.labels)) == (3, [])


# The cost of a scrape


def test_a_scrape_reads_only_what_is_due_claimed_or_refused(db, scrape):
    """A scrape reads no records, and each of its queries on the work queue uses an index."""
    later = timezone.now() + timedelta(days=1)
    waiting = [Work(kind="enrollment", object_id=number, due_at=later) for number in range(5000)]
    refused = [Work(kind="run", object_id=n, refused_at=timezone.now()) for n in range(3)]
    Work.objects.bulk_create(waiting + refused)
    table = Work._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {table}")
    with CaptureQueriesContext(connection) as queries:
        samples = scrape()
    assert value(samples, metrics.REFUSED, kind="run", code="") == 3
    statements = [query["sql"] for query in queries.captured_queries]
    assert not [sql for sql in statements if f'"{CourseRun._meta.db_table}"' in sql]
    about = [sql for sql in statements if table in sql and "'run'" in sql]
    assert len(about) == 3
    for sql in about:
        explain = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
        with connection.cursor() as cursor:
            cursor.execute(f"{explain} {sql}")
            plan = "\n".join(str(row) for row in cursor.fetchall())
        assert "Seq Scan" not in plan, plan
        assert f"SCAN {table}'" not in plan, plan
