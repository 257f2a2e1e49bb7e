"""Runs inside the application's own Python: reads and writes its tables for the sidecar.

It uses only the standard library and the application's own Django (4.2 or newer, Python 3.9 or
newer). ``manage.py shell -c`` reads this file as text from standard input, so the application needs
no package of Usher.

A request and an answer are one JSON line each: ``{"id": 1, "action": "page", ...}`` and ``{"id": 1,
"ok": ...}`` or ``{"id": 1, "error": {"code": ..., "message": ...}}``. Answers begin with a mark
that the sidecar chose, because the application may print other lines. While a request is processed,
a line ``{"id": 1, "alive": seconds}`` is sent every few seconds.
"""

import json
import os
import queue
import sys
import threading
import time
import traceback
from datetime import date, datetime, timedelta

import django

#: The version of the requests and answers, as ``process.VERSION``.
VERSION = 1
#: Seconds between two lines ``alive``.
SECONDS_BETWEEN_ALIVE_LINES = 5.0
#: Seconds without a request after which the agent ends.
MAX_SILENCE_SECONDS = 120.0
#: The most rows in a request. The rows stay locked until the request is done.
MOST_ROWS = 1000
#: Characters after which an error's message is cut off. A database's message may quote a statement
#: with all of its values; the reason why one row was refused is shorter.
MAX_ERROR_LENGTH = 2000
MAX_REASON_LENGTH = 500
STANDARD_OUTPUT = 1
STANDARD_ERROR = 2


class RequestError(Exception):
    """A request that can't be carried out. code: for programs."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Channel:
    """Exchanges lines with the sidecar. All other output of the process goes to standard error.

    The constructor redirects standard output, and starts a thread that reads requests and a thread
    that sends the lines ``alive``. mark: what each line to the sidecar begins with.
    """

    def __init__(self, mark):
        self.mark = mark
        #: When the last line was received.
        self.last_line_at = time.monotonic()
        #: The id of the request in progress; None between two requests.
        self.current_id = None
        #: The lines of requests that are not processed yet.
        self.requests = queue.Queue()
        self._send_lock = threading.Lock()
        sys.stdout.flush()
        self._output = os.fdopen(os.dup(STANDARD_OUTPUT), "wb", buffering=0)
        # From now on, what the application prints goes to standard error.
        os.dup2(STANDARD_ERROR, STANDARD_OUTPUT)
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._send_alive_lines, daemon=True).start()

    def send(self, message):
        # The first line break ends a line that the application may have begun.
        line = "\n{} {}\n".format(self.mark, json.dumps(message, default=as_json))
        remaining = line.encode()
        with self._send_lock:
            while remaining:
                written = self._output.write(remaining)
                remaining = remaining[written:]

    def _listen(self):
        """Receives requests until the sidecar ends; then ends the process."""
        for line in sys.stdin.buffer:
            self.last_line_at = time.monotonic()
            if line.strip():
                self.requests.put(line)
        # The sidecar has ended. The database rolls back an open transaction.
        os._exit(0)

    def _send_alive_lines(self):
        """Sends a line every few seconds during a request. Ends the process if the sidecar sends no
        request for too long, or reads no lines any more."""
        started = time.monotonic()
        while True:
            time.sleep(SECONDS_BETWEEN_ALIVE_LINES)
            now = time.monotonic()
            if self.current_id is not None:
                try:
                    self.send({"id": self.current_id, "alive": round(now - started, 1)})
                except OSError:
                    os._exit(0)
            elif now - self.last_line_at > MAX_SILENCE_SECONDS:
                os._exit(0)


def as_json(value):
    """Converts a value that JSON lacks, such as a time or a decimal number, to text."""
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return str(value)


def serve(mark):
    """Answers requests until the process ends: it never returns."""
    try:
        answer_all(Channel(mark))
    except BaseException:
        # A normal exit would wait for the reading thread.
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def answer_all(channel):
    """Answers requests until the process ends."""
    # Raises an error if the settings can't be read; ``shell`` starts even then.
    django.setup()
    # The sidecar waits for this line, which answers no request, before it sends the first request.
    channel.send({"id": 0, "ok": about()})
    while True:
        line = channel.requests.get()
        answer = {"id": None}
        try:
            request = json.loads(line)
            answer["id"] = channel.current_id = request["id"]
            answer["ok"] = ACTIONS[request["action"]](request)
        except RequestError as error:
            answer["error"] = {"code": error.code, "message": str(error)}
        except Exception as error:
            text = "{}: {}".format(type(error).__name__, error)
            answer["error"] = {"code": "failed", "message": text[:MAX_ERROR_LENGTH]}
        finally:
            channel.current_id = None
        channel.send(answer)
        close_ended_connections()


def close_ended_connections():
    """Closes database connections that have ended, so that the next request does not fail, and
    those that are older than the application's CONN_MAX_AGE."""
    from django.db import close_old_connections

    close_old_connections()


def about(request=None):
    """Returns the versions of the agent, of Python and of Django."""
    return {
        "version": VERSION,
        "python": ".".join(map(str, sys.version_info[:3])),
        "django": django.get_version(),
    }


# -- facts about the application


def check(request):
    """Returns the names in ``tables`` and ``functions`` that this application does not have."""
    missing = []
    for table in request["tables"]:
        missing.extend(missing_names_of_table(table))
    for name in request.get("functions", []):
        try:
            find_function(name)
        except RequestError:
            missing.append(name + "()")
    return {"missing": missing}


def missing_names_of_table(table):
    """Returns the model's name if the application does not have the model; otherwise the fields and
    methods that the model does not have."""
    label = table["model"]
    try:
        model = find_model(label)
    except RequestError:
        return [label]
    missing = []
    for path in table.get("fields", []):
        if not has_field(model, path):
            missing.append("{}.{}".format(label, path))
    for method in table.get("methods", []):
        if not callable(getattr(model, method, None)):
            missing.append("{}.{}()".format(label, method))
    return missing


def find_model(label):
    from django.apps import apps

    try:
        return apps.get_model(label)
    except (LookupError, ValueError) as error:
        raise RequestError("unknown-model", "no model {}".format(label)) from error


def has_field(model, path):
    """Whether the path, such as ``user__email``, leads to a field or a column, through
    relations."""
    from django.core.exceptions import FieldDoesNotExist

    *relations, last = path.split("__")
    for relation in relations:
        try:
            model = model._meta.get_field(relation).related_model
        except FieldDoesNotExist:
            return False
        if model is None:
            return False  # a field, but not a relation
    try:
        model._meta.get_field(last)
    except FieldDoesNotExist:
        # Only the end of a path may be the name of a column, such as ``user_id``.
        return last in column_names(model)
    return True


def find_function(dotted):
    from importlib import import_module

    module, _, name = dotted.rpartition(".")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RequestError("unknown-function", "no function {}".format(dotted)) from error
    return function


def settings(request):
    """Returns the values of settings by name; None for settings that the application lacks."""
    from django.conf import settings as django_settings

    return {name: getattr(django_settings, name, None) for name in request["names"]}


# -- reading


def all_rows(model):
    """Returns all rows of a model, also those that the applications' own managers leave out."""
    return model._base_manager.all()


def apply_conditions(rows, request):
    """Returns the rows for which every condition of ``filter`` holds and none of ``exclude``. A
    condition in ``filter`` may be a list of alternatives."""
    from django.db.models import Q

    def as_lookups(condition):
        return {path: resolve_time(value) for path, value in condition.items()}

    for condition in request.get("filter", []):
        alternatives = condition if isinstance(condition, list) else [condition]
        any_alternative = Q()
        for alternative in alternatives:
            any_alternative |= Q(**as_lookups(alternative))
        rows = rows.filter(any_alternative)
    for condition in request.get("exclude", []):
        rows = rows.exclude(**as_lookups(condition))
    return rows


def resolve_time(value):
    """Converts ``{"ago": seconds}`` and ``{"in": seconds}`` to times by this machine's clock.
    Returns other values as they are."""
    from django.utils import timezone

    if isinstance(value, dict):
        if list(value) == ["ago"]:
            return timezone.now() - timedelta(seconds=value["ago"])
        if list(value) == ["in"]:
            return timezone.now() + timedelta(seconds=value["in"])
    return value


def page(request):
    """Returns a page of rows in the order of their primary keys, with their related rows.

    ``after``: the ``next`` of the page before, or null. ``related``: name → {model, column, fields,
    filter, exclude}: rows of another table, whose ``column`` refers to the page's rows. Returns
    {rows, next, related}. ``next`` is null on the last page, which may have no rows. ``related``:
    name → rows.
    """
    model = find_model(request["model"])
    limit = row_limit(request)
    matching = apply_conditions(all_rows(model), request)
    if request.get("after") is not None:
        matching = matching.filter(pk__gt=request["after"])
    # A condition through a relation may find a row several times, so ``distinct``.
    keys = list(matching.order_by("pk").values_list("pk", flat=True).distinct()[:limit])
    rows = all_rows(model).filter(pk__in=keys).order_by("pk")
    return {
        "rows": list(rows.values("pk", *request["fields"])),
        "next": keys[-1] if len(keys) == limit else None,
        "related": {
            name: related_rows(related, keys)
            for name, related in request.get("related", {}).items()
        },
    }


def related_rows(related, keys):
    """Returns the rows of another table that refer to the rows with these primary keys. related:
    as in ``page``."""
    column = related["column"]
    rows = apply_conditions(all_rows(find_model(related["model"])), related)
    rows = rows.filter(**{column + "__in": keys}).order_by("pk")
    return list(rows.values("pk", column, *related["fields"]))


def count(request):
    rows = apply_conditions(all_rows(find_model(request["model"])), request)
    return rows.values("pk").distinct().count()


def row_limit(request):
    """Returns ``limit`` of the request. Raises RequestError if it is too large."""
    limit = request.get("limit", 500)
    if not 0 < limit <= MOST_ROWS:
        raise RequestError("too-many", "at most {} rows a request".format(MOST_ROWS))
    return limit


# -- writing


def rows_in(request):
    """Returns ``rows`` of the request. Raises RequestError if there are too many."""
    if len(request["rows"]) > MOST_ROWS:
        raise RequestError("too-many", "at most {} rows a request".format(MOST_ROWS))
    return request["rows"]


def write(request):
    """Writes a batch in one transaction; returns the outcome of each row, in order.

    A row has ``pk`` or, if it may have to be created, ``find`` (unique values). ``expect``: the row
    must exist and still have these values; without ``expect``, the row is written only if it does
    not exist. ``set``: values to write. ``owner``: values that the row's owner must still have. The
    owner is the row of the model ``request["owner"]["model"]`` to which the column
    ``request["owner"]["column"]`` refers. ``save_method``: ``save_and_log`` for a model with this
    method, which writes audit rows.

    Outcomes: written, same, changed (by another process; nothing is written), busy (locked by
    another process), gone, refused; dry-run for all rows with ``dry_run``.
    """
    from django.db import transaction

    model = find_model(request["model"])
    rows = rows_in(request)
    if request.get("dry_run"):
        return [{"outcome": "dry-run"} for _ in rows]
    try:
        with transaction.atomic():
            return write_together(model, rows, request)
    except Exception as error:
        # A row is refused, can't be stored, or was created or deleted meanwhile: process each row
        # alone.
        sys.stderr.write("processing each row alone, because one failed: {}\n".format(error))
        return [write_row(model, row, request) for row in rows]


def write_together(model, rows, request):
    """Writes all rows after locking them with a few statements, without a savepoint for each. Rows
    with the same lookup column are locked with one statement; a row with several lookup columns is
    locked alone. Returns the outcome of each row, in order."""
    # The outcomes of rows that can't be written because of their owners; None for the others.
    outcomes = lock_owners(rows, request)
    # Column -> positions in ``rows`` of the rows to look up in this column only.
    positions_by_column = {}
    for position, row in enumerate(rows):
        if outcomes[position]:
            continue
        lookup_columns = list(lookup_of(row))
        if len(lookup_columns) == 1:
            positions_by_column.setdefault(lookup_columns[0], []).append(position)
        else:
            # The owners are locked already.
            outcomes[position] = lock_and_write_row(model, row, {**request, "owner": None})
    changes = []
    for column, positions in positions_by_column.items():
        values = [lookup_of(rows[position])[column] for position in positions]
        locked_rows, existing_values = lock_rows(model, column, values)
        for position in positions:
            value = str(lookup_of(rows[position])[column])
            outcomes[position], change = outcome_and_change(
                model,
                rows[position],
                locked=locked_rows.get(value),
                exists=value in existing_values,
            )
            if change:
                changes.append(change)
    save(model, changes, request)
    return [{"outcome": outcome} for outcome in outcomes]


def lock_rows(model, column, values):
    """Locks the rows whose ``column`` has one of ``values``. Returns value → locked row, and the
    values of all existing rows, including rows that another process has locked. The returned values
    are strings."""
    attname = model._meta.pk.attname if column == "pk" else column
    matching_rows = all_rows(model).filter(**{column + "__in": values})
    locked = matching_rows.order_by("pk").select_for_update(skip_locked=True)
    locked_rows = {str(getattr(row, attname)): row for row in locked}
    if len(locked_rows) == len(values):
        return locked_rows, set(locked_rows)
    existing_values = matching_rows.values_list(column, flat=True)
    return locked_rows, {str(value) for value in existing_values}


def write_row(model, row, request):
    """Writes one row in its own savepoint or transaction, so that its error does not affect other
    rows. Returns its outcome. Raises errors that concern the whole database."""
    from django.db import transaction

    try:
        with transaction.atomic():
            return {"outcome": lock_and_write_row(model, row, request)}
    except Exception as error:
        if is_database_error(error):
            raise
        return {"outcome": "refused", "message": message_of(error)[:MAX_REASON_LENGTH]}


def message_of(error):
    """Returns the message of an error as text, since ``str`` of a ValidationError is a list or a
    dict."""
    from django.core.exceptions import ValidationError

    if not isinstance(error, ValidationError):
        return str(error) or type(error).__name__
    if not hasattr(error, "error_dict"):
        return "; ".join(error.messages)
    texts = []
    for field, messages in error.message_dict.items():
        text = "; ".join(messages)
        is_about_one_field = field != "__all__"
        texts.append("{}: {}".format(field, text) if is_about_one_field else text)
    return "; ".join(texts)


def is_database_error(error):
    """Whether this error concerns the whole database and not one row. A subclass of
    ProgrammingError, such as TransactionManagementError, comes from the code that saves one row."""
    from django.db import InterfaceError, InternalError, OperationalError, ProgrammingError

    errors_of_database = (InterfaceError, InternalError, OperationalError)
    return isinstance(error, errors_of_database) or type(error) is ProgrammingError


def reasons_of_refusal(request):
    """Takes the same request as ``write``. Returns for each row why the model's own ``clean``
    refuses the new values, or null. Writes nothing."""
    model = find_model(request["model"])
    keys = [row["pk"] for row in request["rows"]]
    existing_rows = {str(row.pk): row for row in all_rows(model).filter(pk__in=keys)}
    return [
        reason_of_refusal(model, existing_rows.get(str(row["pk"])), row["set"])
        for row in request["rows"]
    ]


def reason_of_refusal(model, row, values):
    """Returns why ``clean`` refuses the row with these values; None if it does not, or if ``row``
    is None."""
    from django.core.exceptions import ValidationError

    if row is None:
        return None
    try:
        for name, value in values.items():
            setattr(row, name, as_field_type(model, name, value))
        row.clean()
    except ValidationError as error:
        return message_of(error)[:MAX_REASON_LENGTH]
    except Exception as error:
        if is_database_error(error):
            raise
        # This error is not a rule of the application. Writing the row will report it.
        sys.stderr.write("clean() failed: {}\n".format(error))
    return None


def lookup_of(row):
    """Returns the condition, column -> value, that finds the row."""
    return {"pk": row["pk"]} if "pk" in row else row["find"]


def lock_owners(rows, request):
    """Locks the rows' owners. Returns for each row None, or the outcome if the row can't be
    written."""
    if not request.get("owner"):
        return [None] * len(rows)
    model = find_model(request["owner"]["model"])
    column = request["owner"]["column"]
    keys = {lookup_of(row)[column] for row in rows}
    owners = all_rows(model).filter(pk__in=keys)
    locked = owners.order_by("pk").select_for_update(skip_locked=True)
    locked_owners = {owner.pk: owner for owner in locked}
    existing_keys = set(locked_owners)
    if len(locked_owners) < len(keys):
        existing_keys = set(owners.values_list("pk", flat=True))

    def outcome_of(row):
        key = lookup_of(row)[column]
        if key not in existing_keys:
            return "gone"
        if key not in locked_owners:
            return "busy"
        if not has_values(model, locked_owners[key], row["owner"]):
            return "changed"
        return None

    return [outcome_of(row) for row in rows]


def has_values(model, row, values):
    """Whether the row has these values, which are from JSON."""
    return all(getattr(row, name) == as_field_type(model, name, values[name]) for name in values)


def lock_and_write_row(model, row, request):
    """Locks and writes one row, and returns the outcome. Call it inside a transaction."""
    (outcome_of_owner,) = lock_owners([row], request)
    if outcome_of_owner:
        return outcome_of_owner
    matching = all_rows(model).filter(**lookup_of(row))
    locked = matching.select_for_update(skip_locked=True).first()
    exists = locked is not None or matching.exists()
    outcome, change = outcome_and_change(model, row, locked=locked, exists=exists)
    if change:
        save(model, [change], request)
    return outcome


class Change:
    """row: an instance with the values in the database. values: the values to write. new: whether
    the row is not in the database yet."""

    def __init__(self, row, values, new=False):
        self.row = row
        self.values = values
        self.new = new

    def apply(self):
        """Sets the values in the instance, without saving it, and returns the instance."""
        for name, value in self.values.items():
            setattr(self.row, name, value)
        return self.row


def outcome_and_change(model, row, *, locked, exists):
    """Returns the outcome that the row will have, and the Change to save if it is ``written``; None
    for other outcomes. row: from the request. locked: the row in the database; None if it does not
    exist or another process has locked it. exists: whether it exists."""
    values = {name: as_field_type(model, name, value) for name, value in row["set"].items()}
    if locked is None:
        if exists:
            return "busy", None
        if "pk" in row or row.get("expect") is not None:
            return "gone", None
        return "written", Change(model(**row["find"]), values, new=True)
    if row.get("expect") is None:
        # The request was to create the row, and another process created it first.
        return "changed", None
    if not has_values(model, locked, row["expect"]):
        return "changed", None
    if all(getattr(locked, name) == value for name, value in values.items()):
        return "same", None
    return "written", Change(locked, values)


def as_field_type(model, name, value):
    """Converts a value from JSON, or a time as for ``resolve_time``, to the field's type. Returns
    None, lists and objects as they are."""
    field = next(f for f in model._meta.concrete_fields if name in (f.name, f.attname))
    value = resolve_time(value)
    if value is None or isinstance(value, (dict, list)):
        return value
    return field.to_python(value)


def save(model, changes, request):
    """Saves the changes with the application's own code, which validates values and writes audit
    rows. If a few statements for all rows have the same effect, executes these statements
    instead."""
    if request.get("save_method") == "save_and_log":
        save_with_audit_rows(model, changes, request.get("audit"))
    elif saving_writes_only_the_row(model):
        save_many(model, changes)
    else:
        for change in changes:
            change.apply().save()


def saving_writes_only_the_row(model):
    """Whether saving a row of this model only writes the row. Receivers of ``pre_save`` don't
    count: ``send_pre_save`` calls them."""
    from django.db.models import Model
    from django.db.models.signals import post_save

    has_default_save = model.save is Model.save and model.save_base is Model.save_base
    return has_default_save and not post_save.has_listeners(model)


def send_pre_save(row):
    """Sends ``pre_save`` and returns whether its receivers left the row unchanged. Both
    applications have a receiver for all models, which sets the language of pages."""
    from django.db import router
    from django.db.models.signals import pre_save

    values_before = column_values(row)
    model = type(row)
    database = router.db_for_write(model, instance=row)
    pre_save.send(sender=model, instance=row, raw=False, using=database, update_fields=None)
    return column_values(row) == values_before


def save_many(model, changes):
    """Inserts all new rows with one statement. Updates rows that get the same values with one
    statement, except those in which a receiver of ``pre_save`` sets further values."""
    insert_rows(model, [change.apply() for change in changes if change.new])
    changes_by_values = {}
    for change in changes:
        if not change.new:
            values_as_text = json.dumps(change.values, default=as_json, sort_keys=True)
            changes_by_values.setdefault(values_as_text, []).append(change)
    for changes_with_same_values in changes_by_values.values():
        values = {**changes_with_same_values[0].values, **auto_now_values(model)}
        keys_to_update = []
        for change in changes_with_same_values:
            change.values = values
            is_unchanged_by_receivers = send_pre_save(change.apply())
            if is_unchanged_by_receivers:
                keys_to_update.append(change.row.pk)
            else:
                change.row.save()
        model._base_manager.filter(pk__in=keys_to_update).update(**values)


def insert_rows(model, rows):
    """Inserts rows. Sends no ``post_save``: ``saving_writes_only_the_row`` has found that it has no
    receivers."""
    for row in rows:
        send_pre_save(row)
    if rows:
        model._base_manager.bulk_create(rows)


def auto_now_values(model):
    """The columns that every save sets to the current time, with their values."""
    fields = [field for field in model._meta.concrete_fields if getattr(field, "auto_now", False)]
    return {field.name: field.pre_save(model(), add=False) for field in fields}


# -- writing with audit rows
#
# ``save_and_log`` of both applications takes a dozen statements for each row. So the agent calls
# ``save_and_log`` only for the first rows of a batch, and checks which rows it writes. If these are
# only the row itself and one audit row with the content that ``to_dict`` predicts, the agent writes
# the rest of the batch itself in a few statements. Otherwise ``save_and_log`` also saves the other
# rows.

#: The number of rows in a batch that the application's own code always saves.
SAMPLE_SIZE = 2
#: The user in the audit rows: no person makes these changes.
NO_ACTING_USER = None


def save_with_audit_rows(model, changes, audit):
    """Saves changes with ``save_and_log``, or writes the same rows in a few statements.

    audit: {model, row, before, after, relations}: the table of audit rows, its columns, and the
    relations that ``to_dict`` reads; None if the application's own code must save all rows.
    """
    from django.db.models import prefetch_related_objects

    # In a smaller batch, too few rows would be left after the samples.
    is_large_batch = len(changes) > 2 * SAMPLE_SIZE
    updates_only = not any(change.new for change in changes)
    may_write_itself = updates_only and saving_writes_only_the_row(model)
    if not audit or not is_large_batch or not may_write_itself:
        save_and_log_each(changes)
        return

    prefetch_related_objects([change.row for change in changes], *audit["relations"])
    samples, remaining = changes[:SAMPLE_SIZE], changes[SAMPLE_SIZE:]
    learnt_values = [save_and_learn_audit_values(model, change, audit) for change in samples]
    audit_values = learnt_values[0]
    all_samples_agree = all(values == audit_values for values in learnt_values)
    if audit_values is not None and all_samples_agree:
        save_many_with_audit_rows(model, remaining, audit, audit_values)
    else:
        save_and_log_each(remaining)


def save_and_log_each(changes):
    """Saves changes with the application's own code."""
    for change in changes:
        change.apply().save_and_log(NO_ACTING_USER)


def save_and_learn_audit_values(model, change, audit):
    """Saves one row with the application's own code. Returns the columns of its audit row that do
    not depend on the row, with their values; None if anything else was written than the row and one
    audit row with the predicted content."""
    from copy import copy

    from django.db import connection

    audit_model = find_model(audit["model"])
    predicted_before = as_stored_json(change.row.to_dict())
    predicted_row = Change(copy(change.row), change.values).apply()
    predicted_after = as_stored_json(predicted_row.to_dict())

    recorder = WriteRecorder()
    number_of_commit_hooks = len(connection.run_on_commit)
    with connection.execute_wrapper(recorder):
        change.apply().save_and_log(NO_ACTING_USER)
    has_new_commit_hooks = len(connection.run_on_commit) != number_of_commit_hooks
    audit_rows = all_rows(audit_model).filter(**{audit["row"]: change.row.pk})
    audit_row = audit_rows.order_by("-pk").first()

    # Anything else than the row and one audit row was written.
    if not saving_writes_only_the_row(audit_model) or has_new_commit_hooks or audit_row is None:
        return None
    if not recorder.are_update_and_insert(model._meta.db_table, audit_model._meta.db_table):
        return None

    # The content is not the predicted one; the times of saving can't be predicted.
    times = auto_now_values(model)

    def differ(values, predicted_values):
        return without_keys(values, times) != without_keys(predicted_values, times)

    if getattr(audit_row, audit["before"]) != predicted_before:
        return None
    if differ(getattr(audit_row, audit["after"]), predicted_after):
        return None
    if differ(column_values(change.row), column_values(predicted_row)):
        return None

    row_specific_columns = {
        audit_model._meta.pk.attname,
        audit["row"],
        audit["before"],
        audit["after"],
    }
    for field in audit_model._meta.concrete_fields:
        if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
            row_specific_columns.add(field.attname)
    return without_keys(column_values(audit_row), row_specific_columns)


def save_many_with_audit_rows(model, changes, audit, audit_values):
    """Saves changes and inserts their audit rows. audit_values: the columns of the audit rows that
    do not depend on the row."""
    audit_model = find_model(audit["model"])
    data_before = {change.row.pk: change.row.to_dict() for change in changes}
    save_many(model, changes)
    audit_rows = []
    for change in changes:
        row_specific_values = {
            audit["row"]: change.row.pk,
            audit["before"]: data_before[change.row.pk],
            audit["after"]: change.row.to_dict(),
        }
        audit_rows.append(audit_model(**audit_values, **row_specific_values))
    insert_rows(audit_model, audit_rows)


class WriteRecorder:
    """Collects the statements that write to the database."""

    def __init__(self):
        self.statements = []

    def __call__(self, execute, sql, params, many, context):
        if sql.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE"):
            self.statements.append(sql)
        return execute(sql, params, many, context)

    def are_update_and_insert(self, updated, inserted):
        """Whether the statements were one update of the first table and one insert into the
        second."""
        from django.db import connection

        quote = connection.ops.quote_name
        if len(self.statements) != 2:
            return False
        insert, update = sorted(self.statements)  # in the order of the alphabet
        return insert.startswith("INSERT INTO {} ".format(quote(inserted))) and update.startswith(
            "UPDATE {} ".format(quote(updated))
        )


def as_stored_json(data):
    """Returns a value as a JSON column returns it."""
    return json.loads(json.dumps(data))


def column_names(model):
    """The names of columns, such as ``user_id``."""
    return [field.attname for field in model._meta.concrete_fields]


def column_values(row):
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def without_keys(data, names):
    return {name: value for name, value in data.items() if name not in names}


def make(request):
    """Inserts rows without calling the model's ``save``, all or none. Returns their primary
    keys."""
    from django.db import transaction

    model = find_model(request["model"])
    rows = []
    for row in rows_in(request):
        values = {name: as_field_type(model, name, value) for name, value in row.items()}
        rows.append(model(**values))
    with transaction.atomic():
        return [row.pk for row in model._base_manager.bulk_create(rows)]


def remove(request):
    """Deletes rows that ``make`` inserted."""
    all_rows(find_model(request["model"])).filter(pk__in=request["keys"]).delete()


def address(request):
    """Returns the application's URL of the requested name, built as in the application's own
    code."""
    from urllib.parse import urljoin

    from django.conf import settings as django_settings
    from django.urls import reverse

    return urljoin(django_settings.SITE_BASE_URL, reverse(request["name"]))


def call(request):
    """Calls a function of the application for each row, in one transaction. Returns for each row
    the error, or null. If one call fails, calls the function again for every row, each in a
    savepoint."""
    from django.db import transaction

    function = find_function(request["function"])
    model = find_model(request["model"])
    keys = request["keys"]
    try:
        rows = all_rows(model).in_bulk(keys)
        with transaction.atomic():
            for key in keys:
                function(rows[key])
        return [None] * len(keys)
    except Exception as error:
        sys.stderr.write("processing each row alone, because one failed: {}\n".format(error))
    rows = all_rows(model).in_bulk(keys)
    errors = []
    with transaction.atomic():
        for key in keys:
            try:
                if key not in rows:
                    raise LookupError("gone")  # becomes this row's error below
                with transaction.atomic():
                    function(rows[key])
                errors.append(None)
            except Exception as error:
                text = "{}: {}".format(type(error).__name__, error)
                errors.append(text[:MAX_REASON_LENGTH])
    return errors


# -- the application's own locks

#: Name -> HeldLock.
held_locks = {}


class HeldLock:
    """A lock that several holders share: learners without a value in the column have the same lock
    name."""

    def __init__(self, lock, expire):
        self.lock = lock
        #: Seconds from a lock's beginning or extension to its end.
        self.expire = expire
        #: When the lock expires.
        self.until = time.monotonic() + expire
        #: The holders that share the lock.
        self.holders = set()

    def share(self, holder):
        """Adds a holder. Extends the lock first if more than half of its time has passed. Returns
        False if the lock could not be extended; then the holder was not added."""
        if self.until - time.monotonic() < self.expire / 2:
            try:
                self.lock.extend(self.expire)
            except Exception as error:
                sys.stderr.write("a lock could not be extended: {}\n".format(error))
                return False
            self.until = time.monotonic() + self.expire
        self.holders.add(holder)
        return True


def lock(request):
    """Takes the application's own lock for each row, without waiting. Returns for each row whether
    its lock is held.

    ``function`` makes a lock of a given name; ``name`` has ``{}`` for the row's ``column``. Locks
    expire after ``expire`` seconds, for example if this process dies. ``holder``: any name;
    ``unlock`` releases all locks of a holder.
    """
    make_lock = find_function(request["function"])
    model = find_model(request["model"])
    holder, expire = request["holder"], request["expire"]
    rows = all_rows(model).filter(pk__in=request["keys"])
    column_values_by_key = dict(rows.values_list("pk", request["column"]))

    def take(name):
        """Returns whether the holder has the lock of this name."""
        if name not in held_locks:
            new_lock = make_lock(name, expire=expire)
            if not new_lock.acquire(blocking=False):
                return False
            held_locks[name] = HeldLock(new_lock, expire)
        held_lock = held_locks[name]
        return holder in held_lock.holders or held_lock.share(holder)

    return [take(request["name"].format(column_values_by_key.get(key))) for key in request["keys"]]


def unlock(request):
    """Releases the holder's locks. A lock that has expired is no error."""
    for name, held_lock in list(held_locks.items()):
        held_lock.holders.discard(request["holder"])
        if held_lock.holders:
            continue
        del held_locks[name]
        try:
            held_lock.lock.release()
        except Exception as error:
            sys.stderr.write("a lock had expired: {}\n".format(error))


ACTIONS = {
    "about": about,
    "address": address,
    "call": call,
    "check": check,
    "count": count,
    "lock": lock,
    "make": make,
    "page": page,
    "refusals": reasons_of_refusal,
    "remove": remove,
    "settings": settings,
    "unlock": unlock,
    "write": write,
}
