"""The metrics that Usher exports: name, type, labels, unit and meaning of each.

The exporters, the reference page, the alert rules and the dashboard all use this list.
"""

from __future__ import annotations

from dataclasses import dataclass

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

#: Upper bounds of the histograms' buckets, in seconds.
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LAG_BUCKETS = (
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    900.0,
    3600.0,
    21600.0,
    86400.0,
)
#: Upper bounds of the histogram of rows in a request.
_ROW_COUNT_BUCKETS = (1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 150.0, 200.0)


@dataclass(frozen=True)
class Metric:
    """A metric of the application's page of metrics. buckets: upper bounds of a histogram, without
    infinity. A counter's name ends with ``_total``."""

    name: str
    type: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names of the metric's time series."""
        if self.type != HISTOGRAM:
            return (self.name,)
        return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))


BUILD = Metric("usher_build_info", GAUGE, "1; the version is a label.", ("version",))

# Rows in the database at the moment of the scrape

DUE = Metric("usher_due_rows", GAUGE, "Rows that a worker may claim now.", ("kind",))
OLDEST_DUE = Metric(
    "usher_oldest_due_seconds",
    GAUGE,
    "Seconds for which the oldest due row has been due; 0 when none is due.",
    ("kind",),
)
LEASED = Metric("usher_leased_rows", GAUGE, "Rows that a worker has claimed.", ("kind",))
REFUSED = Metric(
    "usher_refused_rows",
    GAUGE,
    "Rows that the LMS refuses until a person acts, by the LMS's reason.",
    ("kind", "code"),
)

# What workers did

OUTCOME_LABELS = (
    "changed",
    "unchanged",
    "waits",
    "transient",
    "throttled",
    "rejected",
    "systemic",
)
OUTCOMES = Metric(
    "usher_outcomes_total",
    COUNTER,
    "Rows processed, by outcome: changed, unchanged, waits (for another row), transient, "
    "throttled, rejected, systemic.",
    ("kind", "outcome"),
)
SETTLE = Metric(
    "usher_settle_seconds",
    HISTOGRAM,
    "Seconds from a change of the desired state until the LMS had it, retries included.",
    ("kind",),
    _LAG_BUCKETS,
)
BATCH_ROWS = Metric(
    "usher_batch_rows",
    HISTOGRAM,
    "Rows in one request for several rows.",
    ("kind",),
    _ROW_COUNT_BUCKETS,
)
PASSES = Metric("usher_passes_total", COUNTER, "Passes of workers over due rows.")
WORKER_SEEN = Metric(
    "usher_worker_seen_timestamp_seconds", GAUGE, "When a worker was last seen alive."
)
SWEPT = Metric(
    "usher_last_sweep_timestamp_seconds",
    GAUGE,
    "When the last sweep ended. A sweep finds due rows whose message was lost.",
)
ASKED = Metric(
    "usher_changes_asked_timestamp_seconds",
    GAUGE,
    "When the LMS was last asked for its changes (batch API only).",
    ("what",),
)
OUTSTANDING = Metric(
    "usher_outstanding_messages", GAUGE, "Messages to Celery workers that are not done yet."
)

# The LMS

#: Usual results of a request, with or without an answer. Each is exported as 0 until it first
#: occurs.
REQUEST_RESULTS = ("2xx", "4xx", "429", "5xx", "timed-out", "no-connection", "broken-off")
REQUEST = Metric(
    "usher_lms_request_seconds",
    HISTOGRAM,
    "Seconds of one request to the LMS. result: 2xx, 3xx, 4xx, 429, 5xx, or why there was no "
    "answer.",
    ("group", "result"),
    _REQUEST_BUCKETS,
)
CIRCUIT_OPEN = Metric(
    "usher_circuit_open",
    GAUGE,
    "1 while nothing is sent to a group of endpoints, or to the host, because it keeps failing.",
    ("group",),
)
THROTTLED = Metric(
    "usher_throttled_seconds",
    GAUGE,
    "Seconds until requests to a group of endpoints are sent again, after the LMS limited them.",
    ("group",),
)
GATE_CLOSED = Metric(
    "usher_gate_closed",
    GAUGE,
    "1 while a kind is stopped after a systemic failure, and only probed.",
    ("kind",),
)

# Messages between application and LMS

WEBHOOK_LAG = Metric(
    "usher_webhook_lag_seconds",
    HISTOGRAM,
    "Seconds from a change in the LMS until the application accepted the message about it.",
    (),
    _LAG_BUCKETS,
)
WEBHOOK_RESULTS = ("accepted", "repeated", "refused")
WEBHOOKS = Metric(
    "usher_webhooks_total",
    COUNTER,
    "Messages from the LMS, by result: accepted, repeated, refused.",
    ("result",),
)
OUTBOX = Metric(
    "usher_lms_outbox_messages",
    GAUGE,
    "Messages that the LMS had not delivered to the application at the last sweep.",
)
OUTBOX_OLDEST = Metric(
    "usher_lms_outbox_oldest_seconds", GAUGE, "Age of the oldest undelivered message of the LMS."
)
SIGN_OUTS = Metric("usher_sign_out_messages", GAUGE, "Sign-outs that were not sent to the LMS yet.")
SIGN_OUTS_OLDEST = Metric(
    "usher_sign_out_oldest_seconds", GAUGE, "Age of the oldest sign-out not sent to the LMS yet."
)

ALL: tuple[Metric, ...] = tuple(
    metric for metric in list(globals().values()) if isinstance(metric, Metric)
)
