"""Signals about records that the LMS accepted, refused or deactivated.

Sent after the transaction that wrote the outcome, in the process that did the work, usually a
worker. An exception in a receiver is logged and has no other effect. A slow receiver delays a
worker, so do long work in a task. A receiver may be called again for the same record, for example
after its mode changed.

    @receiver(enrollment_settled)
    def welcome(sender, enrollment, user, run, was_active, **kwargs): ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from django.dispatch import Signal

from usher.application.adapter import DefaultAdapter, Refusal, adapter
from usher.contract.failures import FailureClass
from usher.engine.observers import Observer

#: A learner's LMS account was created. Arguments: account, user.
account_ready = Signal()
#: An enrollment is in sync. Arguments: enrollment, user, run, changed (whether the learner was
#: enrolled or unenrolled, or the mode changed, in the LMS; False if the LMS had the desired state
#: already), was_active (whether the learner was enrolled in the LMS before, as far as this
#: application knew).
enrollment_settled = Signal()
#: The LMS refuses a record. The record is sent again when somebody retries it (an enrollment also
#: when its course run changes in the LMS). sender: the record's model. Arguments: row, kind, code,
#: message, user (None if the record has no learner).
refused = Signal()
#: An LMS account was found inactive. Arguments: account, user, wanted (True if this application
#: requested the deactivation, False if the LMS's staff deactivated the account).
learner_deactivated = Signal()


class SignalSender(Observer):
    """Sends the signals for the outcomes that the engine writes."""

    def writing(self, kind: Any, results: Sequence[tuple[Any, Any]]) -> None:
        send_signals(kind.name, kind.model, results)


def send_signals(kind: str, model: type[Any], results: Sequence[tuple[Any, Any]]) -> None:
    """Sends the signals for outcomes that are being written, once they are committed.

    results: jobs and outcomes of one kind. Cheap if no receiver is connected.
    """
    created = _created_ids(kind, results)
    if created and account_ready.has_listeners(model):
        _after_commit(_send_account_ready, model, created)
    deactivated = _deactivated_ids(kind, results)
    if deactivated and learner_deactivated.has_listeners(model):
        _after_commit(_send_learner_deactivated, model, deactivated)
    settled = _settled_enrollments(kind, results)
    if settled and enrollment_settled.has_listeners(model):
        _after_commit(_send_enrollment_settled, model, settled)
    refusals = newly_refused(kind, results)
    if refusals and (refused.has_listeners(model) or _adapter_handles_refusals()):
        _after_commit(_send_refusals, model, refusals)


def _after_commit(send: Callable[..., None], model: type[Any], records: Any) -> None:
    transaction.on_commit(lambda: send(model, records), robust=True)


def _created_ids(kind: str, results: Sequence[tuple[Any, Any]]) -> list[int]:
    """Ids of accounts that exist in the LMS now and were not known to exist before; none for other
    kinds."""
    if kind != "account":
        return []
    return [
        job.row.pk
        for job, outcome in results
        if outcome.error is None
        and not job.row.is_ready
        and outcome.values.get("created_in_lms_at")
    ]


def _deactivated_ids(kind: str, results: Sequence[tuple[Any, Any]]) -> list[int]:
    """Ids of accounts that were newly found inactive in the LMS; none for other kinds."""
    if kind != "account":
        return []
    return [
        job.row.pk
        for job, outcome in results
        if outcome.error is None
        and outcome.values.get("observed_is_active") is False
        and job.row.observed_is_active is not False
    ]


def _settled_enrollments(
    kind: str, results: Sequence[tuple[Any, Any]]
) -> dict[int, dict[str, bool]]:
    """Id of each enrollment that was not settled before, or that changed in the LMS → the
    arguments ``changed`` and ``was_active`` of the signal."""
    if kind != "enrollment":
        return {}
    settled = {}
    for job, outcome in results:
        row = job.row
        is_new = outcome.changed or not row.is_settled
        if outcome.error is None and is_new:
            was_active = bool(row.observed_is_active)
            settled[row.pk] = {"changed": outcome.changed, "was_active": was_active}
    return settled


def newly_refused(kind: str, results: Sequence[tuple[Any, Any]]) -> list[Refusal]:
    """The refusals among these outcomes that are new: the LMS had not refused the row before."""
    return [
        Refusal(
            kind=kind,
            what=job.display_name,
            code=outcome.error.code,
            message=outcome.error.message,
            row=job.row,
            request_id=outcome.error.request_id,
        )
        for job, outcome in results
        if outcome.error is not None
        and not outcome.is_waiting
        and outcome.error.failure_class == FailureClass.REJECTED
        and job.row.refused_at is None  # reported when it was first refused
    ]


def _adapter_handles_refusals() -> bool:
    """Whether the adapter's ``refused`` does anything: the project overrides it, or the default
    method has recipients for its mail."""
    from django.conf import settings

    is_overridden = type(adapter()).refused is not DefaultAdapter.refused
    return is_overridden or bool(settings.MANAGERS)


def _rows(model: type[Any], pks: Any) -> list[Any]:
    """The records with these ids, except those that were deleted in the meantime."""
    related = ("user", "run") if model._meta.model_name == "enrollment" else ("user",)
    return list(model._default_manager.filter(pk__in=list(pks)).select_related(*related))


def _send_account_ready(model: type[Any], pks: list[int]) -> None:
    for row in _rows(model, pks):
        account_ready.send_robust(model, account=row, user=row.user)


def _send_learner_deactivated(model: type[Any], pks: list[int]) -> None:
    for row in _rows(model, pks):
        learner_deactivated.send_robust(model, account=row, user=row.user, wanted=not row.is_active)


def _send_enrollment_settled(model: type[Any], settled: dict[int, dict[str, bool]]) -> None:
    for row in _rows(model, settled):
        enrollment_settled.send_robust(
            model, enrollment=row, user=row.user, run=row.run, **settled[row.pk]
        )


def _send_refusals(model: type[Any], refusals: list[Refusal]) -> None:
    """Sends a signal for each refusal, and passes all of them to the project's adapter."""
    for refusal in refusals:
        try:
            user = getattr(refusal.row, "user", None)
        except ObjectDoesNotExist:  # an earlier receiver deleted the learner
            continue
        refused.send_robust(
            model,
            row=refusal.row,
            kind=refusal.kind,
            code=refusal.code,
            message=refusal.message,
            user=user,
        )
    adapter().refused(refusals)
