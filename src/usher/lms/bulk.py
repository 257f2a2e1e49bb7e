"""Inserts many rows in one statement, and sends the signals that saving each row would send.

Receivers run for each row as they do for a single save. A receiver is skipped only where a batch
has already done its work: see ``usher.lms.platform_receivers``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from asgiref.sync import async_to_sync
from django.db import connection, models
from django.db.models.signals import ModelSignal, post_save, pre_save
from django.dispatch import Signal

Receiver = Callable[..., Any]

#: Calls that ``skipping_receivers`` skips: receiver → rows for which it is not called.
_SKIPPED_CALLS: ContextVar[Mapping[Receiver, set[Hashable]] | None] = ContextVar(
    "skipped_calls", default=None
)


def _replace_no_receivers(rows: Sequence[Any]) -> Collection[Receiver]:
    """The default of ``save_new``: does no receiver's work, so every receiver is called."""
    return ()


def save_new(
    rows: Sequence[Any],
    *,
    unique_fields: Sequence[str],
    before_insert: Callable[[Sequence[Any]], Collection[Receiver]] = _replace_no_receivers,
    after_insert: Callable[[Sequence[Any]], Collection[Receiver]] = _replace_no_receivers,
) -> None:
    """Insert ``rows`` of one model, and send ``pre_save`` and ``post_save`` for each.

    unique_fields: attributes that together are unique, see ``insert``. before_insert, after_insert:
    functions called with the rows before and after the insert. Each does the work of some receivers
    of ``pre_save`` or ``post_save``, and returns those receivers, which are then not called.
    """
    if not rows:
        return
    replaced_receivers = before_insert(rows)
    for row in rows:
        send_pre_save(row, replaced_receivers)
    insert(rows, unique_fields=unique_fields)
    replaced_receivers = [*after_insert(rows), *add_history(rows)]
    for row in rows:
        send_post_save(row, created=True, replaced=replaced_receivers)


def insert(rows: Sequence[Any], *, unique_fields: Sequence[str]) -> None:
    """Insert ``rows`` and give each its primary key, without signals.

    MySQL does not return the primary keys of several inserted rows. With MySQL, the keys are read
    back by the values of the attributes ``unique_fields``.
    """
    model = type(rows[0])
    model._default_manager.bulk_create(rows)
    rows_without_key = [row for row in rows if row.pk is None]
    if not rows_without_key:
        return
    condition = {
        f"{name}__in": {getattr(row, name) for row in rows_without_key} for name in unique_fields
    }
    saved_rows = model._base_manager.filter(**condition).values_list("pk", *unique_fields)
    # Compared as text: a value that is read back may have another type.
    key_by_values = {tuple(map(str, values)): key for key, *values in saved_rows}
    for row in rows_without_key:
        row.pk = key_by_values[tuple(str(getattr(row, name)) for name in unique_fields)]
        row._state.adding, row._state.db = False, connection.alias


def history_receiver(model: type[models.Model]) -> Receiver | None:
    """The receiver with which django-simple-history adds a row for each save of ``model``.

    None if there is no such receiver. Also None if the receiver has to run for each row, because
    other code listens to the history's own signals or the history tracks many-to-many fields.
    """
    history_receivers = [
        receiver for receiver in receivers(post_save, model) if _writes_history(receiver)
    ]
    if not history_receivers:
        return None
    from simple_history import signals

    history = _history(model).model
    history_signals = (signals.pre_create_historical_record, signals.post_create_historical_record)
    unusual = getattr(history, "_history_m2m_fields", ()) or any(
        signal.has_listeners(history) for signal in history_signals
    )
    return None if unusual else history_receivers[0]


def add_history(rows: Sequence[Any], *, update: bool = False) -> list[Receiver]:
    """Add the history of saved ``rows``, as the history receiver would. update: as changes of
    existing rows, not as new rows. Returns a list of that receiver, which need not be called then;
    or an empty list if the receiver has to run for each row."""
    receiver = history_receiver(type(rows[0]))
    if receiver is None:
        return []
    history = _history(type(rows[0]))
    history.bulk_history_create(rows, update=update, default_change_reason=None)
    return [receiver]


def _history(model: Any) -> Any:
    """The manager of the history rows of ``model``."""
    return getattr(model, model._meta.simple_history_manager_attribute)


def _writes_history(receiver: Receiver) -> bool:
    """Whether this is the method ``HistoricalRecords.post_save`` of django-simple-history."""
    owner = type(getattr(receiver, "__self__", None))
    names = (owner.__module__, owner.__name__, getattr(receiver, "__name__", ""))
    return names == ("simple_history.models", "HistoricalRecords", "post_save")


def send_pre_save(row: Any, replaced: Collection[Receiver] = ()) -> None:
    _send(pre_save, row, replaced, further_arguments={})


def send_post_save(row: Any, *, created: bool, replaced: Collection[Receiver] = ()) -> None:
    _send(post_save, row, replaced, further_arguments={"created": created})


def _send(
    signal: ModelSignal, row: Any, replaced: Collection[Receiver], *, further_arguments: Any
) -> None:
    """Call the receivers not in ``replaced``, with the arguments of ``Model.save_base``."""
    sender = type(row)
    arguments = {
        "instance": row,
        "raw": False,
        "using": connection.alias,
        "update_fields": None,
    } | further_arguments
    synchronous, asynchronous = _live_receivers(signal, sender)
    for receiver in synchronous:
        if receiver not in replaced:
            receiver(signal=signal, sender=sender, **arguments)
    for receiver in asynchronous:
        if receiver not in replaced:
            async_to_sync(receiver)(signal=signal, sender=sender, **arguments)


def receivers(signal: Any, sender: type[models.Model] | None) -> list[Receiver]:
    """The receivers of ``signal`` that are called for ``sender``, in their order."""
    synchronous, asynchronous = _live_receivers(signal, sender)
    return [*synchronous, *asynchronous]


def _live_receivers(signal: Any, sender: Any) -> tuple[Iterable[Receiver], Iterable[Receiver]]:
    """The synchronous and the asynchronous receivers."""
    live = signal._live_receivers(sender)
    # Django 4.2 returns synchronous receivers only.
    return live if isinstance(live, tuple) else (live, [])


@contextmanager
def skipping_receivers(
    signal: Signal,
    replaced: Collection[Receiver],
    rows: Collection[Hashable],
    identify_row: Callable[..., Hashable],
) -> Iterator[None]:
    """Within the block, skip each receiver in ``replaced`` once for each of ``rows`` when other
    code sends ``signal``. Other threads are not affected.

    rows: any hashable identifiers. identify_row: gets the keyword arguments with which a receiver
    would be called, and returns the identifier of the row in these arguments.
    """
    _install_filter(signal, identify_row)
    outer_skipped_calls = _SKIPPED_CALLS.get() or {}
    token = _SKIPPED_CALLS.set(
        {**outer_skipped_calls, **{receiver: set(rows) for receiver in replaced}}
    )
    try:
        yield
    finally:
        _SKIPPED_CALLS.reset(token)


def _install_filter(signal: Any, identify_row: Callable[..., Hashable]) -> None:
    """Wrap the signal's ``_live_receivers``: Django has no public way to skip a receiver."""
    if "_live_receivers" in vars(signal):
        return  # it is wrapped already
    unfiltered = signal._live_receivers

    def without_skipped_receivers(sender: Any) -> Any:
        receivers_of_sender = unfiltered(sender)
        skipped_calls = _SKIPPED_CALLS.get()
        if not skipped_calls:
            return receivers_of_sender
        synchronous, *asynchronous = (
            receivers_of_sender
            if isinstance(receivers_of_sender, tuple)
            else (receivers_of_sender,)
        )
        remaining = [
            _skip_for_rows(receiver, skipped_calls[receiver], identify_row)
            if receiver in skipped_calls
            else receiver
            for receiver in synchronous
        ]
        return (remaining, *asynchronous) if isinstance(receivers_of_sender, tuple) else remaining

    signal._live_receivers = without_skipped_receivers


def _skip_for_rows(
    receiver: Receiver, rows: set[Hashable], identify_row: Callable[..., Hashable]
) -> Receiver:
    """A receiver that calls ``receiver``, except once for each of ``rows``."""

    @wraps(receiver)  # openedx-events logs the names of receivers
    def call_unless_skipped(**arguments: Any) -> Any:
        row = identify_row(**arguments)
        if row not in rows:
            return receiver(**arguments)
        rows.remove(row)
        return None

    return call_unless_skipped
