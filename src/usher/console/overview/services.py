"""The data of the overview. Reads the database and the cache; sends no request to the LMS."""

from __future__ import annotations

from dataclasses import dataclass, field
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
from usher.application.metrics.models import MetricValue
from usher.application.states import State, in_state, span
from usher.application.webhooks.models import ReceivedEvent
from usher.console import words
from usher.console.counting import EXACTLY, Count, bounded, total
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
KEPT = 3
_KEY = "usher-console-overview"
#: The most refusals that are counted exactly; more than of other rows, since an index is enough.
REFUSED_EXACTLY = 100_000
#: The most deactivated accounts that are counted.
_DEACTIVATED = 1000
#: Minutes of the chart.
MINUTES = 60
#: Seconds after which a worker's report about the LMS is too old to be used.
_FRESH = 180
#: Seconds without a report after which a worker counts as gone, and after which it is not listed.
_GONE = 600
_GONE_SHOWN = 3600
#: The order of the index of due rows.
_QUEUE = ("work__lane", "work__due_at", "work__object_id")


@dataclass(frozen=True)
class KindCounts:
    """Records of one kind by state. waiting: the number of pending records. oldest: since when the
    longest waiting record has been due; None if none is due."""

    name: str
    title: str
    in_sync: Count
    waiting: Count
    retrying: Count
    refused: Count
    oldest: datetime | None

    @property
    def is_empty(self) -> bool:
        return not (self.in_sync or self.waiting or self.retrying or self.refused)

    @property
    def oldest_for(self) -> str:
        seconds = (timezone.now() - self.oldest).total_seconds() if self.oldest else 0.0
        return span(seconds) if seconds >= 1 else ""


@dataclass(frozen=True)
class WorkerSeen:
    """state: ``alive``, ``late``, or ``gone`` after ten minutes without a report."""

    name: str
    what: str
    seen_at: datetime
    state: str


@dataclass(frozen=True)
class Gate:
    kind: str
    why: str
    code: str
    again: str


@dataclass(frozen=True)
class LmsHealth:
    """state: ``ok``, ``failing`` or ``unknown``. sentence: the same for people. median, slow: the
    median and the 95th percentile of the last requests, in milliseconds; None if unknown.
    circuits, throttled: groups of endpoints, and when each is tried again."""

    state: str
    sentence: str
    median: int | None = None
    slow: int | None = None
    circuits: list[tuple[str, str]] = field(default_factory=list)
    throttled: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Minute:
    at: datetime
    done: int
    failed: int


@dataclass(frozen=True)
class Messages:
    """received_at: when the LMS's last webhook arrived. pulled_at: when the LMS's list of changes
    was last read. sign_outs: how many sign-out messages to the LMS wait; oldest: since when.
    outbox: how many of its messages the LMS had not delivered at ``outbox_at``, None if unknown;
    outbox_for: how long the oldest had waited then."""

    received_at: datetime | None
    pulled_at: datetime | None
    sign_outs: int
    oldest: datetime | None
    outbox: int | None = None
    outbox_for: str = ""
    outbox_at: datetime | None = None


@dataclass(frozen=True)
class Verdict:
    """state: ``ok``, ``waiting``, ``warning`` or ``bad``."""

    state: str
    text: str
    next: str = ""


@dataclass(frozen=True)
class Overview:
    at: datetime
    verdict: Verdict
    kinds: list[KindCounts]
    refused: Count
    deactivated: Count
    throughput: list[Minute]
    lms: LmsHealth
    gates: list[Gate]
    workers: list[WorkerSeen]
    swept_at: datetime | None
    messages: Messages

    @property
    def shown(self) -> list[KindCounts]:
        return [kind for kind in self.kinds if not kind.is_empty] or self.kinds[:1]

    @property
    def none(self) -> str:
        """The titles of kinds without records, separated by commas."""
        shown = {kind.name for kind in self.shown}
        titles = [kind.title for kind in self.kinds if kind.name not in shown]
        return ", ".join(titles)


def overview() -> Overview:
    """The overview, at most ``KEPT`` seconds old."""
    found = cache.get(_KEY)
    if not isinstance(found, Overview):
        found = look()
        cache.set(_KEY, found, KEPT)
    return found


def look() -> Overview:
    kinds = kind_counts()
    reports = list(Worker.objects.order_by("-seen_at")[:50])
    fresh = [row for row in reports if _age(row.seen_at) < _FRESH]
    lms, gates, workers = _lms(reports), _gates(fresh), _workers(reports)
    refused = sum((kind.refused for kind in kinds), Count(0))
    return Overview(
        at=timezone.now(),
        verdict=_verdict(kinds, refused, lms, gates),
        kinds=kinds,
        refused=refused,
        deactivated=_deactivated(),
        throughput=throughput(),
        lms=lms,
        gates=gates,
        workers=workers,
        swept_at=_asked_at(heartbeat.SWEEP),
        messages=_messages(),
    )


def _deactivated() -> Count:
    """Exact up to ``_DEACTIVATED``."""
    # First the ids, in the order of their index: with more conditions PostgreSQL reads the table.
    accounts = LmsAccount.objects.filter(LmsAccount.DEACTIVATED_IN_LMS).order_by("username")
    ids = list(accounts.values_list("pk", flat=True)[: _DEACTIVATED + 1])
    found = in_state(LmsAccount.objects.filter(pk__in=ids), State.DEACTIVATED).count()
    return Count(found, about=len(ids) > _DEACTIVATED)


def kind_counts() -> list[KindCounts]:
    found: list[KindCounts] = []
    for name, kind in all_kinds().items():
        counts = _counts(name, kind.model)
        if name == "token" and found and counts.in_sync.about:
            counts = _without_dormant(counts, found[0])
        found.append(counts)
    return found


def _counts(name: str, model: Any) -> KindCounts:
    rows = model._default_manager.all()
    now = database_now()
    longest_due_first = rows.filter(work__due_at__isnull=False).order_by(*_QUEUE)
    open_ = longest_due_first[: EXACTLY + 1].aggregate(
        all=Counted("pk"),
        waiting=Counted("pk", filter=~IN_SYNC & Q(work__attempts=0)),
        retrying=Counted("pk", filter=~IN_SYNC & Q(work__attempts__gt=0)),
    )
    work = Work.objects.filter(kind=name).values("object_id")
    refused = bounded(work.filter(parked_at__isnull=False), REFUSED_EXACTLY)
    waiting, retrying = Count(open_["waiting"]), Count(open_["retrying"])
    if open_["all"] > EXACTLY:
        # The first thousands were counted; all rows are estimated from these.
        factor = bounded(work.filter(due_at__isnull=False)).value / open_["all"]
        waiting = Count(round(waiting.value * factor), about=True)
        retrying = Count(round(retrying.value * factor), about=True)
    every = total(model)
    if every.about:
        rest = every.value - refused.value - waiting.value - retrying.value
        in_sync = Count(max(0, rest), about=True)
    else:
        in_sync = Count(rows.filter(IN_SYNC, work__parked_at__isnull=True).count())
    oldest = None
    if open_["all"]:
        oldest = min(
            filter(None, (_oldest(due_work(name, now), lane) for lane in Lane)), default=None
        )
    return KindCounts(name, words.many(name), in_sync, waiting, retrying, refused, oldest)


def _oldest(due: Any, lane: Lane) -> datetime | None:
    """When the first row of a lane, in the order of the index, became due."""
    found: datetime | None = (
        due.filter(lane=lane)
        .order_by("due_at", "object_id")
        .values_list("due_at", flat=True)
        .first()
    )
    return found


def _without_dormant(token: KindCounts, account: KindCounts) -> KindCounts:
    """Corrects an estimate: a token whose account is not created yet is neither due nor in sync."""
    dormant = account.waiting + account.retrying + account.refused
    values = vars(token) | {
        "in_sync": Count(max(0, token.in_sync.value - dormant.value), about=True)
    }
    return KindCounts(**values)


def throughput() -> list[Minute]:
    """The last hour, minute by minute, oldest first. Leaves out the current minute."""
    now = timezone.now().replace(second=0, microsecond=0)
    first = now - timedelta(minutes=MINUTES)
    rows = WorkDone.objects.filter(minute__gte=first, minute__lt=now).values("minute")
    sums = {
        row["minute"]: row
        for row in rows.annotate(
            done=Sum("changed") + Sum("unchanged"), wrong=Sum("failed") + Sum("refused")
        )
    }
    found = []
    for number in range(MINUTES):
        at = first + timedelta(minutes=number)
        row = sums.get(at, {"done": 0, "wrong": 0})
        found.append(Minute(at, row["done"], row["wrong"]))
    return found


def _workers(reports: list[Worker]) -> list[WorkerSeen]:
    """Leaves out workers that have been gone for an hour, unless there is no other."""
    found = [WorkerSeen(r.name, r.what, r.seen_at, _worker_state(r)) for r in reports]
    recent = [one for one in found if one.state != "gone" or _age(one.seen_at) < _GONE_SHOWN]
    return (recent or found[:1])[:12]


def _worker_state(row: Worker) -> str:
    age = _age(row.seen_at)
    if age > _GONE:
        return "gone"
    late = heartbeat.LATE_WATCHING if "watch" in row.what else _FRESH
    return "late" if age > late else "alive"


def _lms(reports: list[Worker]) -> LmsHealth:
    seen: list[dict[str, Any]] = [row.report.get("lms", {}) for row in reports]
    answered = max((one.get("answered_at") or 0.0 for one in seen), default=0.0)
    last: dict[str, Any] = max(seen, key=lambda one: one.get("failed_at") or 0.0, default={})
    failed = last.get("failed_at") or 0.0
    fresh = [row for row in reports if _age(row.seen_at) < _FRESH]
    milliseconds = sorted(
        ms for row in fresh for ms in row.report.get("lms", {}).get("milliseconds", ())
    )
    common: dict[str, Any] = {
        "median": round(median(milliseconds)) if milliseconds else None,
        "slow": milliseconds[int(0.95 * (len(milliseconds) - 1))] if milliseconds else None,
        "circuits": _waits(fresh, "circuits"),
        "throttled": _waits(fresh, "throttled"),
    }
    if failed > answered:
        why = last.get("failure") or "The last request failed."
        return LmsHealth("failing", f"{why} Seen {words.ago(_moment(failed))}.", **common)
    if answered:
        state = "ok" if fresh else "unknown"
        return LmsHealth(state, f"Last answer {words.ago(_moment(answered))}.", **common)
    return LmsHealth("unknown", "No worker has sent a request to the LMS yet.", **common)


def _waits(reports: list[Worker], what: str) -> list[tuple[str, str]]:
    """Groups of endpoints that get no requests now, and when each is tried again."""
    found: dict[str, float] = {}
    for row in reports:
        for group, seconds in row.report.get(what, {}).items():
            left = seconds - _age(row.seen_at)
            found[group] = max(left, found.get(group, 0.0))
    if what == "throttled":
        found = {group: left for group, left in found.items() if left > 0}
    return [(group, _again(left)) for group, left in sorted(found.items())]


def _gates(fresh: list[Worker]) -> list[Gate]:
    found: dict[str, Gate] = {}
    for row in fresh:
        for kind, gate in row.report.get("gates", {}).items():
            left = gate.get("again_in", 0.0) - _age(row.seen_at)
            if kind not in found or (gate.get("message") and not found[kind].why):
                found[kind] = Gate(
                    words.many(kind), gate.get("message", ""), gate.get("code", ""), _again(left)
                )
    return list(found.values())


def _again(left: float) -> str:
    return f"tried again in {span(left)}" if left > 0 else "tried again now"


def _messages() -> Messages:
    received = ReceivedEvent.objects.order_by("-received_at").values_list("received_at", flat=True)
    waiting: dict[str, Any] = {"count": 0, "oldest": None}
    if apps.is_installed("usher.application.provider"):
        from usher.application.provider.models import SignOutMessage

        waiting = SignOutMessage.objects.order_by("pk")[:1000].aggregate(
            count=Counted("pk"), oldest=Min("created_at")
        )
    return Messages(
        received_at=received.first(),
        pulled_at=_asked_at("accounts", "enrollments", "course-runs"),
        sign_outs=waiting["count"],
        oldest=waiting["oldest"],
        **_outbox(),
    )


def _outbox() -> dict[str, Any]:
    """The LMS's outbox, as the LMS last reported it."""
    names = (metrics.OUTBOX.name, metrics.OUTBOX_OLDEST.name)
    rows = {row.name: row for row in MetricValue.objects.filter(name__in=names, labels="[]")}
    if (row := rows.get(metrics.OUTBOX.name)) is None:
        return {}
    oldest = rows[metrics.OUTBOX_OLDEST.name].value if len(rows) == 2 else 0.0
    return {
        "outbox": int(row.value),
        "outbox_for": span(oldest) if row.value else "",
        "outbox_at": row.updated_at,
    }


def _asked_at(*what: str) -> datetime | None:
    marks = Watermark.objects.filter(what__in=what).order_by("-asked_at")
    return marks.values_list("asked_at", flat=True).first()


def _verdict(kinds: list[KindCounts], refused: Count, lms: LmsHealth, gates: list[Gate]) -> Verdict:
    """The most important finding."""
    open_ = sum((kind.waiting + kind.retrying for kind in kinds), Count(0))
    seen = heartbeat.seconds_ago()
    if seen is None or seen[0] > seen[1]:
        since = "has ever run" if seen is None else f"has reported for {span(seen[0])}"
        return Verdict(
            "bad",
            f"No worker {since}.",
            "Start Celery's workers and beat, or manage.py reconcile --watch.",
        )
    if lms.state == "failing":
        return Verdict("bad", "The last request to the LMS failed.", lms.sentence)
    if gates:
        names = ", ".join(gate.kind for gate in gates)
        return Verdict("bad", f"Stopped: {names}.", gates[0].why)
    if refused:
        noun = "record is" if refused.value == 1 else "records are"
        return Verdict(
            "warning",
            f"{refused} {noun} refused.",
            REFUSED_NEXT,
        )
    if retrying := sum((kind.retrying for kind in kinds), Count(0)):
        noun = "record" if retrying.value == 1 else "records"
        return Verdict("waiting", f"{retrying} {noun} failed and will be retried.")
    if open_:
        return Verdict("waiting", f"{open_} waiting to be sent.")
    return Verdict("ok", "Everything is in sync.")


def _age(moment: datetime) -> float:
    return max(0.0, (timezone.now() - moment).total_seconds())


def _moment(epoch: float | None) -> datetime | None:
    return datetime.fromtimestamp(epoch, tz=timezone.get_current_timezone()) if epoch else None
