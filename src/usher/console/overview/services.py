"""The data of the overview. Reads the database and the cache; sends no request to the LMS."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from django.apps import apps
from django.core.cache import cache
from django.db.models import Count as Counted
from django.db.models import Min, Q, Sum
from django.utils import timezone

from usher.application.accounts.models import LmsAccount
from usher.application.adapter import REFUSED_NEXT
from usher.application.explain import worker_problem
from usher.application.metrics.models import MetricValue
from usher.application.states import State, duration_text, in_state
from usher.application.webhooks.models import ReceivedEvent
from usher.console import words
from usher.console.counting import MAX_EXACT_COUNT, Count, count_all_rows, count_rows
from usher.console.recording.models import WorkDone, Worker
from usher.contract import metrics
from usher.engine import heartbeat
from usher.engine.clock import database_now
from usher.engine.lanes import Lane
from usher.engine.models import IN_SYNC, Watermark
from usher.engine.registry import all_kinds
from usher.engine.work import Work
from usher.engine.work import due as due_work

#: Seconds for which the overview is cached for all visitors.
CACHE_SECONDS = 3
_CACHE_KEY = "usher-console-overview"
#: The most refusals that are counted exactly. The limit is higher than for other rows, since only
#: an index is read.
MAX_EXACT_REFUSED = 100_000
#: The most deactivated accounts that are counted.
_MAX_DEACTIVATED = 1000
#: Minutes of the chart.
CHART_MINUTES = 60
#: Seconds after which a worker's report about the LMS is too old to be used.
_REPORT_SECONDS = 180
#: Seconds without a report after which a worker counts as gone, and seconds after which the page no
#: longer lists it.
_GONE_SECONDS = 600
_GONE_SHOWN_SECONDS = 3600
#: The most workers whose reports are read, and the most that the page lists.
_MAX_REPORTS = 50
_MAX_WORKERS = 12
#: What to do about a failure that concerns all learners.
_DOCTOR_ADVICE = (
    "Run the checks on the page Doctor: they name the cause and its fix. Workers retry meanwhile."
)
#: The order of the index of due rows.
_QUEUE_ORDER = ("work__lane", "work__due_at", "work__object_id")


@dataclass(frozen=True)
class KindCounts:
    """Records of one kind by state. oldest_due_at: when the record that has waited longest became
    due; None if no record is due."""

    name: str
    title: str
    in_sync: Count
    pending: Count
    retrying: Count
    refused: Count
    oldest_due_at: datetime | None

    @property
    def is_empty(self) -> bool:
        return not (self.in_sync or self.pending or self.retrying or self.refused)

    @property
    def oldest_age(self) -> str:
        """How long the record that has waited longest has been due, as text; '' for less than a
        second, or if no record is due."""
        if self.oldest_due_at is None:
            return ""
        seconds = (timezone.now() - self.oldest_due_at).total_seconds()
        return duration_text(seconds) if seconds >= 1 else ""


@dataclass(frozen=True)
class WorkerStatus:
    """name: host and process id. process: what runs there, such as ``Celery worker``. state:
    ``alive``, ``late``, or ``gone`` after ten minutes without a report."""

    name: str
    process: str
    seen_at: datetime
    state: str


@dataclass(frozen=True)
class Gate:
    """A kind that is stopped for all learners. kind: its title. next_try: when a worker tries it
    again, as text."""

    kind: str
    reason: str
    code: str
    next_try: str


@dataclass(frozen=True)
class LmsHealth:
    """state: ``ok``, ``failing`` or ``unknown``. sentence: the state for people. median,
    percentile_95: durations of the last requests, in milliseconds; None if unknown. circuits,
    throttled: groups of endpoints whose circuit is open or whose rate is limited, each with the
    time of the next try."""

    state: str
    sentence: str
    median: int | None = None
    percentile_95: int | None = None
    circuits: list[tuple[str, str]] = field(default_factory=list)
    throttled: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Minute:
    """The records that all workers handled in one minute. done: changed in the LMS, or found in
    sync. failed: failed or refused."""

    at: datetime
    done: int
    failed: int


@dataclass(frozen=True)
class Messages:
    """The messages between the application and the LMS.

    received_at: when the LMS's last webhook arrived. pulled_at: when the LMS's list of changes
    was last read. sign_outs: the number of sign-out messages that wait for the LMS, counted up
    to a thousand. sign_outs_oldest_at: when the oldest of these was made. outbox_seen_at: when the
    LMS last reported its outbox. outbox_count: the number of messages that were not delivered then;
    None if unknown. outbox_oldest_age: how long the oldest of these had waited, as text."""

    received_at: datetime | None
    pulled_at: datetime | None
    sign_outs: int
    sign_outs_oldest_at: datetime | None
    outbox_count: int | None = None
    outbox_oldest_age: str = ""
    outbox_seen_at: datetime | None = None


@dataclass(frozen=True)
class Verdict:
    """state: ``ok``, ``waiting``, ``warning`` or ``bad``. text: a sentence about the state. next:
    what to do, or ''."""

    state: str
    text: str
    next: str = ""


@dataclass(frozen=True)
class Overview:
    """The contents of the overview. at: when they were read. deactivated: the number of accounts
    that are deactivated in the LMS. swept_at: the time of the last sweep; None for never."""

    at: datetime
    verdict: Verdict
    kinds: list[KindCounts]
    refused: Count
    deactivated: Count
    throughput: list[Minute]
    lms: LmsHealth
    gates: list[Gate]
    workers: list[WorkerStatus]
    swept_at: datetime | None
    messages: Messages

    @property
    def shown_kinds(self) -> list[KindCounts]:
        """The kinds that have records; the first kind if none has, so that the table has a row."""
        return [kind for kind in self.kinds if not kind.is_empty] or self.kinds[:1]

    @property
    def empty_titles(self) -> str:
        """The titles of the kinds without records that are not shown, separated by commas."""
        shown_names = {kind.name for kind in self.shown_kinds}
        titles = [kind.title for kind in self.kinds if kind.name not in shown_names]
        return ", ".join(titles)


def overview() -> Overview:
    """The overview, at most ``CACHE_SECONDS`` seconds old."""
    cached = cache.get(_CACHE_KEY)
    if not isinstance(cached, Overview):
        cached = read_overview()
        cache.set(_CACHE_KEY, cached, CACHE_SECONDS)
    return cached


def read_overview() -> Overview:
    """The overview, read from the database now."""
    kinds = kind_counts()
    reports = list(Worker.objects.order_by("-seen_at")[:_MAX_REPORTS])
    lms = _lms_health(reports)
    gates = _closed_gates(_recent(reports))
    refused = sum((kind.refused for kind in kinds), Count(0))
    return Overview(
        at=timezone.now(),
        verdict=_verdict(kinds, refused, lms, gates),
        kinds=kinds,
        refused=refused,
        deactivated=_count_deactivated(),
        throughput=throughput(),
        lms=lms,
        gates=gates,
        workers=_worker_statuses(reports),
        swept_at=_newest_watermark(heartbeat.SWEEP),
        messages=_messages(),
    )


def _recent(reports: list[Worker]) -> list[Worker]:
    return [row for row in reports if _age(row.seen_at) < _REPORT_SECONDS]


def _count_deactivated() -> Count:
    """Returns the number of accounts that are deactivated in the LMS, exact up to
    ``_MAX_DEACTIVATED``."""
    # Read the ids first, in the order of their index: with more conditions PostgreSQL would read
    # the whole table.
    accounts = LmsAccount.objects.filter(LmsAccount.DEACTIVATED_IN_LMS).order_by("username")
    ids = list(accounts.values_list("pk", flat=True)[: _MAX_DEACTIVATED + 1])
    count = in_state(LmsAccount.objects.filter(pk__in=ids), State.DEACTIVATED).count()
    return Count(count, is_estimate=len(ids) > _MAX_DEACTIVATED)


def kind_counts() -> list[KindCounts]:
    """The counts of each kind, in the order of the kinds. Large numbers are estimates."""
    counts = {name: _count_by_state(name, kind.model) for name, kind in all_kinds().items()}
    if "token" in counts and "account" in counts and counts["token"].in_sync.is_estimate:
        counts["token"] = _without_tokens_to_come(counts["token"], counts["account"])
    return list(counts.values())


def _count_by_state(name: str, model: Any) -> KindCounts:
    """Counts the records of a kind in each state; large numbers are estimates."""
    rows = model._default_manager.all()
    work = Work.objects.filter(kind=name).values("object_id")

    # Pending and retrying.
    longest_due_first = rows.filter(work__due_at__isnull=False).order_by(*_QUEUE_ORDER)
    due = longest_due_first[: MAX_EXACT_COUNT + 1].aggregate(
        all=Counted("pk"),
        # A due record that is in sync is only compared with the LMS once more.
        pending=Counted("pk", filter=~IN_SYNC & Q(work__attempts=0)),
        retrying=Counted("pk", filter=~IN_SYNC & Q(work__attempts__gt=0)),
    )
    pending = Count(due["pending"])
    retrying = Count(due["retrying"])
    if due["all"] > MAX_EXACT_COUNT:
        # Only the first rows were counted; estimate the number of all rows from these.
        all_due = count_rows(work.filter(due_at__isnull=False))
        factor = all_due.value / due["all"]
        pending = Count(round(pending.value * factor), is_estimate=True)
        retrying = Count(round(retrying.value * factor), is_estimate=True)

    # Refused and in sync.
    refused = count_rows(work.filter(refused_at__isnull=False), MAX_EXACT_REFUSED)
    all_rows = count_all_rows(model)
    if all_rows.is_estimate:
        settled = all_rows.value - refused.value - pending.value - retrying.value
        in_sync = Count(max(0, settled), is_estimate=True)
    else:
        in_sync = Count(rows.filter(IN_SYNC, work__refused_at__isnull=True).count())

    return KindCounts(
        name=name,
        title=words.plural(name),
        in_sync=in_sync,
        pending=pending,
        retrying=retrying,
        refused=refused,
        oldest_due_at=_oldest_due_at(name) if due["all"] else None,
    )


def _oldest_due_at(kind: str) -> datetime | None:
    """Returns the time at which the first record of this kind became due; None if none is due."""
    due = due_work(kind, database_now())
    times = []
    # A query for each lane, because the index of due rows begins with kind and lane.
    for lane in Lane:
        oldest_first = due.filter(lane=lane).order_by("due_at", "object_id")
        due_at = oldest_first.values_list("due_at", flat=True).first()
        if due_at is not None:
            times.append(due_at)
    return min(times, default=None)


def _without_tokens_to_come(token: KindCounts, account: KindCounts) -> KindCounts:
    """Corrects an estimate: a token whose account is not created yet is neither due nor in sync."""
    missing_accounts = account.pending + account.retrying + account.refused
    in_sync = max(0, token.in_sync.value - missing_accounts.value)
    return replace(token, in_sync=Count(in_sync, is_estimate=True))


def throughput() -> list[Minute]:
    """The last hour, minute by minute, oldest first. Leaves out the current minute."""
    now = timezone.now().replace(second=0, microsecond=0)
    first = now - timedelta(minutes=CHART_MINUTES)
    rows = WorkDone.objects.filter(minute__gte=first, minute__lt=now).values("minute")
    sums = rows.annotate(
        done=Sum("changed") + Sum("unchanged"),
        failed_or_refused=Sum("failed") + Sum("refused"),
    )
    minutes = {
        row["minute"]: Minute(row["minute"], row["done"], row["failed_or_refused"]) for row in sums
    }
    hour = []
    for number in range(CHART_MINUTES):
        at = first + timedelta(minutes=number)
        hour.append(minutes.get(at, Minute(at, done=0, failed=0)))
    return hour


def _worker_statuses(reports: list[Worker]) -> list[WorkerStatus]:
    """The workers to show: all but those that have been gone for an hour. If all have, the first of
    them."""
    workers = [
        WorkerStatus(row.name, process=row.role, seen_at=row.seen_at, state=_worker_state(row))
        for row in reports
    ]
    # Also workers that are not gone: they were seen even later.
    recent = [worker for worker in workers if _age(worker.seen_at) < _GONE_SHOWN_SECONDS]
    if not recent:
        return workers[:1]
    return recent[:_MAX_WORKERS]


def _worker_state(row: Worker) -> str:
    """The state as in ``WorkerStatus``."""
    age = _age(row.seen_at)
    if age > _GONE_SECONDS:
        return "gone"
    is_watching = "watch" in row.role  # `reconcile --watch`
    max_age = heartbeat.LATE_WATCHING_SECONDS if is_watching else _REPORT_SECONDS
    return "late" if age > max_age else "alive"


def _lms_health(reports: list[Worker]) -> LmsHealth:
    """Whether the LMS answered the last request of any worker. Durations, circuits and rate limits
    are those of recent reports only."""
    # The last answer and the last failure, as Unix times; 0.0 for never.
    answered_at = failed_at = 0.0
    failure = ""
    for row in reports:
        lms_report = row.report.get("lms", {})
        answered_at = max(answered_at, lms_report.get("answered_at") or 0.0)
        worker_failed_at = lms_report.get("failed_at") or 0.0
        if worker_failed_at > failed_at:
            failed_at = worker_failed_at
            failure = lms_report.get("failure") or ""

    recent_reports = _recent(reports)
    if failed_at > answered_at:
        state = "failing"
        why = failure or "The last request failed."
        sentence = f"{why} Seen {words.ago(_from_timestamp(failed_at))}."
    elif answered_at:
        state = "ok" if recent_reports else "unknown"
        sentence = f"Last answer {words.ago(_from_timestamp(answered_at))}."
    else:
        state = "unknown"
        sentence = "No worker has sent a request to the LMS yet."

    milliseconds: list[int] = []
    for row in recent_reports:
        milliseconds += row.report.get("lms", {}).get("milliseconds", ())
    milliseconds.sort()
    position_of_percentile_95 = int(0.95 * (len(milliseconds) - 1))
    return LmsHealth(
        state,
        sentence,
        median=round(median(milliseconds)) if milliseconds else None,
        percentile_95=milliseconds[position_of_percentile_95] if milliseconds else None,
        circuits=_paused_groups(recent_reports, "circuits"),
        throttled=_paused_groups(recent_reports, "throttled"),
    )


def _paused_groups(reports: list[Worker], key: str) -> list[tuple[str, str]]:
    """Returns the groups of endpoints to which no requests are sent now, and when each is tried
    again. key: ``circuits`` or ``throttled``, the part of the reports."""
    waits: dict[str, float] = {}
    for row in reports:
        for group, seconds in row.report.get(key, {}).items():
            remaining = seconds - _age(row.seen_at)
            waits[group] = max(remaining, waits.get(group, 0.0))
    # A rate limit is over when its time has passed. A circuit stays open until a request succeeds.
    if key == "throttled":
        waits = {group: remaining for group, remaining in waits.items() if remaining > 0}
    return [(group, _next_try_text(remaining)) for group, remaining in sorted(waits.items())]


def _closed_gates(recent_reports: list[Worker]) -> list[Gate]:
    """Returns the kinds that are stopped for all learners, each with the reason and the time of the
    next try."""
    gates: dict[str, Gate] = {}
    for row in recent_reports:
        for kind, gate in row.report.get("gates", {}).items():
            remaining = gate.get("again_in", 0.0) - _age(row.seen_at)
            # Only the process that saw the failure reports a message, which is preferred.
            adds_message = kind in gates and not gates[kind].reason and gate.get("message")
            if kind not in gates or adds_message:
                gates[kind] = Gate(
                    kind=words.plural(kind),
                    reason=gate.get("message", ""),
                    code=gate.get("code", ""),
                    next_try=_next_try_text(remaining),
                )
    return list(gates.values())


def _next_try_text(remaining: float) -> str:
    """When the next try is, as text. remaining: seconds until then."""
    return f"tried again in {duration_text(remaining)}" if remaining > 0 else "tried again now"


def _messages() -> Messages:
    received = ReceivedEvent.objects.order_by("-received_at").values_list("received_at", flat=True)
    waiting_sign_outs: dict[str, Any] = {"count": 0, "oldest": None}
    if apps.is_installed("usher.application.provider"):
        from usher.application.provider.models import SignOutMessage

        # Counts a thousand at most, so that a long queue costs no more.
        waiting_sign_outs = SignOutMessage.objects.order_by("pk")[:1000].aggregate(
            count=Counted("pk"), oldest=Min("created_at")
        )
    return Messages(
        received_at=received.first(),
        pulled_at=_newest_watermark("accounts", "enrollments", "course-runs"),
        sign_outs=waiting_sign_outs["count"],
        sign_outs_oldest_at=waiting_sign_outs["oldest"],
        **_outbox(),
    )


def _outbox() -> dict[str, Any]:
    """The values of ``Messages`` about the LMS's outbox; empty if the LMS has not reported it."""
    names = (metrics.OUTBOX.name, metrics.OUTBOX_OLDEST.name)
    rows = {row.name: row for row in MetricValue.objects.filter(name__in=names, labels="[]")}
    count = rows.get(metrics.OUTBOX.name)
    if count is None:
        return {}
    oldest_age = ""
    if count.value:
        seconds = rows.get(metrics.OUTBOX_OLDEST.name)
        oldest_age = duration_text(seconds.value if seconds else 0.0)
    return {
        "outbox_count": int(count.value),
        "outbox_oldest_age": oldest_age,
        "outbox_seen_at": count.updated_at,
    }


def _newest_watermark(*names: str) -> datetime | None:
    """The latest time in the watermarks of these names: when a list was read, or regular work was
    done. None for never."""
    marks = Watermark.objects.filter(name__in=names).order_by("-asked_at")
    return marks.values_list("asked_at", flat=True).first()


def _verdict(kinds: list[KindCounts], refused: Count, lms: LmsHealth, gates: list[Gate]) -> Verdict:
    """The most important finding about all records."""
    problem = worker_problem()
    if problem is not None:
        return Verdict("bad", problem.text, problem.next)
    if lms.state == "failing":
        advice = f"{lms.sentence} {_DOCTOR_ADVICE}"
        return Verdict("bad", "The last request to the LMS failed.", advice)
    if gates:
        names = ", ".join(gate.kind for gate in gates)
        why = gates[0].reason or "No record of these kinds can be sent to the LMS now."
        return Verdict("bad", f"Stopped: {names}.", f"{why} {_DOCTOR_ADVICE}")
    if refused:
        noun = "record is" if refused.value == 1 else "records are"
        return Verdict("warning", f"{refused} {noun} refused.", REFUSED_NEXT)
    retrying = sum((kind.retrying for kind in kinds), Count(0))
    if retrying:
        noun = "record" if retrying.value == 1 else "records"
        return Verdict("waiting", f"{retrying} {noun} failed and will be retried.")
    pending = sum((kind.pending for kind in kinds), Count(0))
    if pending:
        return Verdict("waiting", f"{pending} waiting to be sent.")
    return Verdict("ok", "Everything is in sync.")


def _age(moment: datetime) -> float:
    """Seconds since this moment; 0 for a moment in the future, if clocks differ."""
    return max(0.0, (timezone.now() - moment).total_seconds())


def _from_timestamp(seconds: float) -> datetime:
    """Unix seconds as a time."""
    return datetime.fromtimestamp(seconds, tz=timezone.get_current_timezone())
