"""Runs inside the application's own Python: reads and writes its tables for the sidecar.

It uses only the standard library and the application's own Django (4.2 or newer, Python 3.9 or
newer). It is sent as text to ``manage.py shell -c``, so the application needs no package of Usher.

A request and an answer are one JSON line each: ``{"id": 1, "do": "page", ...}`` and ``{"id": 1,
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
from decimal import Decimal

import django

VERSION = 1
#: Seconds between two lines ``alive``, and seconds without a request after which the agent ends.
HEARTBEAT = 5.0
SILENCE = 120.0
#: The most rows in a request, because they stay locked until it is done.
MOST_ROWS = 1000


class Wrong(Exception):
    """A request that can't be carried out. code: for programs."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Channel:
    """Exchanges lines with the sidecar. All other output of the process goes to standard error."""

    def __init__(self, mark):
        self.mark = mark
        self.heard = time.monotonic()
        self.working_on = None
        self.requests = queue.Queue()
        self._lock = threading.Lock()
        sys.stdout.flush()
        self._out = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def send(self, message):
        line = "\n{} {}\n".format(self.mark, json.dumps(message, default=as_json))
        data = line.encode()
        with self._lock:
            while data:
                data = data[self._out.write(data) :]

    def _listen(self):
        for line in sys.stdin.buffer:
            self.heard = time.monotonic()
            if line.strip():
                self.requests.put(line)
        # The sidecar has ended. The database rolls back an open transaction.
        os._exit(0)

    def _beat(self):
        started = time.monotonic()
        while True:
            time.sleep(HEARTBEAT)
            now = time.monotonic()
            if self.working_on is None:
                if now - self.heard > SILENCE:
                    os._exit(0)
                continue
            try:
                self.send({"id": self.working_on, "alive": round(now - started, 1)})
            except OSError:
                os._exit(0)


def as_json(value):
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    return str(value)


def serve(mark):
    try:
        answer_all(Channel(mark))
    except BaseException:
        # A normal exit would wait for the thread that reads.
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def answer_all(channel):
    # ``shell`` starts even if the settings can't be read.
    django.setup()
    channel.send({"id": 0, "ok": about()})
    while True:
        line = channel.requests.get()
        answer = {"id": None}
        try:
            request = json.loads(line)
            answer["id"] = channel.working_on = request["id"]
            answer["ok"] = ACTIONS[request["do"]](request)
        except Wrong as error:
            answer["error"] = {"code": error.code, "message": str(error)}
        except Exception as error:
            words = "{}: {}".format(type(error).__name__, error)
            answer["error"] = {"code": "failed", "message": words[:2000]}
        finally:
            channel.working_on = None
        channel.send(answer)
        let_connections_go()


def let_connections_go():
    """Closes database connections that have ended, so that the next request does not fail."""
    from django.db import close_old_connections

    close_old_connections()


def about(request=None):
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
        try:
            model = model_of(table["model"])
        except Wrong:
            missing.append(table["model"])
            continue
        for path in table.get("fields", []):
            if not has_path(model, path):
                missing.append("{}.{}".format(table["model"], path))
        for method in table.get("methods", []):
            if not callable(getattr(model, method, None)):
                missing.append("{}.{}()".format(table["model"], method))
    for name in request.get("functions", []):
        try:
            function_of(name)
        except Wrong:
            missing.append(name + "()")
    return {"missing": missing}


def model_of(label):
    from django.apps import apps

    try:
        return apps.get_model(label)
    except (LookupError, ValueError) as error:
        raise Wrong("unknown-model", "no model {}".format(label)) from error


def has_path(model, path):
    from django.core.exceptions import FieldDoesNotExist

    names = path.split("__")
    for position, name in enumerate(names):
        try:
            field = model._meta.get_field(name)
        except FieldDoesNotExist:
            attnames = [f.attname for f in model._meta.concrete_fields]
            return name in attnames and position == len(names) - 1
        if position < len(names) - 1:
            model = field.related_model
            if model is None:
                return False
    return True


def function_of(dotted):
    from importlib import import_module

    module, _, name = dotted.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise Wrong("unknown-function", "no function {}".format(dotted)) from error
    return found


def settings(request):
    from django.conf import settings as django_settings

    return {name: getattr(django_settings, name, None) for name in request["names"]}


# -- reading


def everything(model):
    """Returns all rows of a model, also those that the applications' own managers leave out."""
    return model._base_manager.all()


def narrowed(rows, request):
    from django.db.models import Q

    for condition in request.get("filter", []):
        either = Q()
        for alternative in condition if isinstance(condition, list) else [condition]:
            either |= Q(**{path: given(value) for path, value in alternative.items()})
        rows = rows.filter(either)
    for condition in request.get("exclude", []):
        rows = rows.exclude(**{path: given(value) for path, value in condition.items()})
    return rows


def given(value):
    """Converts ``{"ago": seconds}`` and ``{"in": seconds}`` to times by this machine's clock."""
    from django.utils import timezone

    if isinstance(value, dict) and set(value) == {"ago"}:
        return timezone.now() - timedelta(seconds=value["ago"])
    if isinstance(value, dict) and set(value) == {"in"}:
        return timezone.now() + timedelta(seconds=value["in"])
    return value


def page(request):
    """Returns rows after ``after`` in the order of their primary keys, with their related rows.

    ``with``: name → {model, by, fields, filter, exclude}: rows of another table, which refer to
    these by ``by``.
    """
    model, fields, limit = model_of(request["model"]), request["fields"], rows_of(request)
    rows = narrowed(everything(model), request)
    if request.get("after") is not None:
        rows = rows.filter(pk__gt=request["after"])
    keys = rows.order_by("pk").values_list("pk", flat=True).distinct()
    keys = list(keys[:limit])
    found = everything(model).filter(pk__in=keys).order_by("pk").values("pk", *fields)
    result = {
        "rows": list(found),
        "next": keys[-1] if len(keys) == limit else None,
        "related": {},
    }
    for name, related in request.get("with", {}).items():
        rows = narrowed(everything(model_of(related["model"])), related)
        rows = rows.filter(**{related["by"] + "__in": keys}).order_by("pk")
        result["related"][name] = list(rows.values("pk", related["by"], *related["fields"]))
    return result


def count(request):
    rows = narrowed(everything(model_of(request["model"])), request)
    return rows.values("pk").distinct().count()


def rows_of(request):
    limit = request.get("limit", 500)
    if not 0 < limit <= MOST_ROWS:
        raise Wrong("too-many", "at most {} rows a request".format(MOST_ROWS))
    return limit


# -- writing


def write(request):
    """Writes a batch in one transaction; returns the outcome of each row, in order.

    A row has ``pk`` or, if it may have to be created, ``find`` (unique values). ``expect``: values
    that it must still have. ``set``: values to write. ``owner``: values that the row of
    ``request["owner"]``, {model, by}, must still have. Outcomes: written, same, changed (by another
    process; nothing is written), busy (locked by another process), gone, refused.
    """
    from django.db import transaction

    if len(request["rows"]) > MOST_ROWS:
        raise Wrong("too-many", "at most {} rows a request".format(MOST_ROWS))
    model, rows = model_of(request["model"]), request["rows"]
    if request.get("dry_run"):
        return [{"outcome": "dry-run"} for _ in rows]
    try:
        with transaction.atomic():
            return together(model, rows, request)
    except Exception as error:
        # A row is refused, can't be stored, or was created or deleted meanwhile: each row by
        # itself.
        sys.stderr.write("each row alone, for one failed: {}\n".format(error))
        return [write_row(model, row, request) for row in rows]


def together(model, rows, request):
    """Writes all rows after locking them with one statement, without a savepoint for each."""
    outcomes = [outcome and {"outcome": outcome} for outcome in of_owners(rows, request)]
    changes = []
    by_key = {}
    for position, row in enumerate(rows):
        if outcomes[position]:
            continue
        found = found_by(row)
        if len(found) == 1:
            by_key.setdefault(next(iter(found)), []).append(position)
        else:
            outcomes[position] = {"outcome": changed_row(model, row, {**request, "owner": None})}
    for key, positions in by_key.items():
        attname = model._meta.pk.attname if key == "pk" else key
        values = [found_by(rows[position])[key] for position in positions]
        those = everything(model).filter(**{key + "__in": values})
        locked = those.order_by("pk").select_for_update(skip_locked=True)
        locked = {str(getattr(row, attname)): row for row in locked}
        there = set(locked)
        if len(locked) < len(values):
            there = {str(value) for value in those.values_list(key, flat=True)}
        for position in positions:
            name = str(found_by(rows[position])[key])
            outcome, change = decide(model, rows[position], locked.get(name), name in there)
            outcomes[position] = {"outcome": outcome}
            if change:
                changes.append(change)
    save(model, changes, request)
    return outcomes


def write_row(model, row, request):
    """Writes one row in its own savepoint or transaction, so that its error does not affect
    others."""
    from django.db import transaction

    try:
        with transaction.atomic():
            return {"outcome": changed_row(model, row, request)}
    except Exception as error:
        if is_of_the_database(error):
            raise
        return {"outcome": "refused", "message": words_of(error)[:500]}


def words_of(error):
    """Returns the message of an error. That of a ValidationError would be shown as a list or a
    dict."""
    from django.core.exceptions import ValidationError

    if not isinstance(error, ValidationError):
        return str(error) or type(error).__name__
    if not hasattr(error, "error_dict"):
        return "; ".join(error.messages)
    return "; ".join(
        "{}: {}".format(field, "; ".join(messages)) if field != "__all__" else "; ".join(messages)
        for field, messages in error.message_dict.items()
    )


def is_of_the_database(error):
    """Whether this error concerns the whole database and not one row. Subclasses of
    ProgrammingError are raised for what a row's own code does in a transaction."""
    from django.db import InterfaceError, InternalError, OperationalError, ProgrammingError

    for_all = (InterfaceError, InternalError, OperationalError)
    return isinstance(error, for_all) or type(error) is ProgrammingError


def found_by(row):
    return {"pk": row["pk"]} if "pk" in row else row["find"]


def of_owners(rows, request):
    """Locks the rows' owners. Returns for each row the outcome if it can't be written, else
    None."""
    if not request.get("owner"):
        return [None] * len(rows)
    model, by = model_of(request["owner"]["model"]), request["owner"]["by"]
    keys = {found_by(row)[by] for row in rows}
    those = everything(model).filter(pk__in=keys)
    locked = those.order_by("pk").select_for_update(skip_locked=True)
    locked = {row.pk: row for row in locked}
    there = set(locked)
    if len(locked) < len(keys):
        there = set(those.values_list("pk", flat=True))
    outcomes = []
    for row in rows:
        key = found_by(row)[by]
        if key not in locked:
            outcomes.append("busy" if key in there else "gone")
        else:
            same = has_values(model, locked[key], row["owner"])
            outcomes.append(None if same else "changed")
    return outcomes


def has_values(model, row, values):
    return all(getattr(row, name) == value_for(model, name, values[name]) for name in values)


def changed_row(model, row, request):
    (outcome,) = of_owners([row], request)
    if outcome:
        return outcome
    those = everything(model).filter(**found_by(row))
    locked = those.select_for_update(skip_locked=True).first()
    outcome, change = decide(model, row, locked, locked is not None or those.exists())
    save(model, [change] if change else [], request)
    return outcome


class Change:
    """row: an instance with the values in the database. values: those to write. new: whether it is
    not in the database yet."""

    def __init__(self, row, values, new=False):
        self.row, self.values, self.new = row, values, new

    def apply(self):
        for name, value in self.values.items():
            setattr(self.row, name, value)
        return self.row


def decide(model, row, locked, there):
    """Returns the outcome, and the Change if it is ``written``. locked: the row; None if it does
    not exist or another process has locked it. there: whether it exists."""
    wanted = {name: value_for(model, name, value) for name, value in row["set"].items()}
    if locked is None:
        if there:
            return "busy", None
        if "pk" in row or row.get("expect") is not None:
            return "gone", None
        return "written", Change(model(**row["find"]), wanted, new=True)
    expected = row.get("expect")
    if expected is None:
        # It was to be created, and another process created it first.
        return "changed", None
    if not has_values(model, locked, expected):
        return "changed", None
    if all(getattr(locked, name) == value for name, value in wanted.items()):
        return "same", None
    return "written", Change(locked, wanted)


def value_for(model, name, value):
    """Converts a value from JSON to the field's type."""
    field = next(f for f in model._meta.concrete_fields if name in (f.name, f.attname))
    value = given(value)
    if value is None or isinstance(value, (dict, list)):
        return value
    return field.to_python(value)


def save(model, changes, request):
    """Saves with the application's own code, so that audit rows are written and values validated;
    if a few statements for all rows write the same, uses these."""
    if request.get("by") == "save_and_log":
        save_logged(model, changes, request.get("audit"))
    elif is_plain(model):
        save_many(model, changes)
    else:
        for change in changes:
            change.apply().save()


def is_plain(model):
    """Whether saving a row of this model does nothing but write it."""
    from django.db.models import Model
    from django.db.models.signals import post_save

    own = model.save is Model.save and model.save_base is Model.save_base
    return own and not post_save.has_listeners(model)


def announce(row):
    """Sends ``pre_save`` and returns whether the row is unchanged: both applications have a
    receiver for all models, which sets the language of pages."""
    from django.db import router
    from django.db.models.signals import pre_save

    before, model = columns_of(row), type(row)
    alias = router.db_for_write(model, instance=row)
    pre_save.send(sender=model, instance=row, raw=False, using=alias, update_fields=None)
    return columns_of(row) == before


def save_many(model, changes):
    """Inserts new rows with one statement, and updates rows that get the same values with one."""
    create(model, [change.apply() for change in changes if change.new])
    alike = {}
    for change in changes:
        if not change.new:
            name = json.dumps(change.values, default=as_json, sort_keys=True)
            alike.setdefault(name, []).append(change)
    for those in alike.values():
        values = {**those[0].values, **moments_of_change(model)}
        keys = []
        for change in those:
            change.values = values
            if announce(change.apply()):
                keys.append(change.row.pk)
            else:
                change.row.save()
        model._base_manager.filter(pk__in=keys).update(**values)


def create(model, rows):
    for row in rows:
        announce(row)
    if rows:
        model._base_manager.bulk_create(rows)


def moments_of_change(model):
    """The columns that every save sets to the current time, with their values."""
    fields = [field for field in model._meta.concrete_fields if getattr(field, "auto_now", False)]
    return {field.name: field.pre_save(model(), False) for field in fields}


# -- writing with audit rows
#
# ``save_and_log`` of both applications takes a dozen statements for each row. It saves the first
# rows of every batch. If it writes only the row and one audit row, with the content that
# ``to_dict`` gave beforehand, the rest of the batch is written in the same way with a few
# statements.

#: The number of rows in a batch that the application's own code always saves.
SAMPLES = 2


def save_logged(model, changes, audit):
    """audit: {model, row, before, after, with}: the table of audit rows, its columns, and the
    relations that ``to_dict`` reads; None if the application's own code must save all rows."""
    rest = changes
    many = len(changes) > 2 * SAMPLES and not any(change.new for change in changes)
    if audit and many and is_plain(model):
        from django.db.models import prefetch_related_objects

        prefetch_related_objects([change.row for change in changes], *audit["with"])
        samples, rest = changes[:SAMPLES], changes[SAMPLES:]
        logged = [logged_as_foretold(model, change, audit) for change in samples]
        if logged[0] is not None and all(one == logged[0] for one in logged):
            save_many_logged(model, rest, audit, logged[0])
            return
    for change in rest:
        change.apply().save_and_log(None)


def logged_as_foretold(model, change, audit):
    """Saves one row with the application's own code. Returns the columns of its audit row that do
    not depend on the row; None if anything else was written."""
    from copy import copy

    from django.db import connection

    table = model_of(audit["model"])
    moments = moments_of_change(model)
    before = plain(change.row.to_dict())
    foretold = Change(copy(change.row), change.values).apply()
    after = plain(foretold.to_dict())
    writing, hooks = Writing(), len(connection.run_on_commit)
    with connection.execute_wrapper(writing):
        change.apply().save_and_log(None)
    row = everything(table).filter(**{audit["row"]: change.row.pk}).order_by("-pk").first()
    as_expected = (
        is_plain(table)
        and writing.only(model._meta.db_table, table._meta.db_table)
        and len(connection.run_on_commit) == hooks
        and row is not None
        and getattr(row, audit["before"]) == before
        and without(getattr(row, audit["after"]), moments) == without(after, moments)
        and without(columns_of(change.row), moments) == without(columns_of(foretold), moments)
    )
    if not as_expected:
        return None
    own = {table._meta.pk.attname, audit["row"], audit["before"], audit["after"]}
    for field in table._meta.concrete_fields:
        if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
            own.add(field.attname)
    return without(columns_of(row), own)


def save_many_logged(model, changes, audit, logged):
    table = model_of(audit["model"])
    before = {change.row.pk: change.row.to_dict() for change in changes}
    save_many(model, changes)
    rows = [
        table(
            **logged,
            **{
                audit["row"]: change.row.pk,
                audit["before"]: before[change.row.pk],
                audit["after"]: change.row.to_dict(),
            },
        )
        for change in changes
    ]
    create(table, rows)


class Writing:
    """Collects the statements that write to the database."""

    def __init__(self):
        self.statements = []

    def __call__(self, execute, sql, params, many, context):
        if sql.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE"):
            self.statements.append(sql)
        return execute(sql, params, many, context)

    def only(self, updated, inserted):
        """Whether these were one update of the first table and one insert into the second."""
        from django.db import connection

        quote = connection.ops.quote_name
        begins = ("INSERT INTO {} ".format(quote(inserted)), "UPDATE {} ".format(quote(updated)))
        found = sorted(self.statements)
        return len(found) == 2 and all(map(str.startswith, found, begins))


def plain(data):
    """Returns a value as a JSON column returns it."""
    return json.loads(json.dumps(data))


def columns_of(row):
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def without(data, names):
    return {name: value for name, value in data.items() if name not in names}


def make(request):
    """Inserts rows without calling the model's ``save``, all or none. Returns their primary
    keys."""
    from django.db import transaction

    if len(request["rows"]) > MOST_ROWS:
        raise Wrong("too-many", "at most {} rows a request".format(MOST_ROWS))
    model = model_of(request["model"])
    rows = [
        model(**{name: value_for(model, name, value) for name, value in row.items()})
        for row in request["rows"]
    ]
    with transaction.atomic():
        return [row.pk for row in model._base_manager.bulk_create(rows)]


def remove(request):
    """Deletes rows that ``make`` inserted."""
    everything(model_of(request["model"])).filter(pk__in=request["keys"]).delete()


def address(request):
    """Returns the application's URL of that name, as its own code builds it."""
    from urllib.parse import urljoin

    from django.conf import settings as django_settings
    from django.urls import reverse

    return urljoin(django_settings.SITE_BASE_URL, reverse(request["name"]))


def call(request):
    """Calls a function of the application for each row, in one transaction. Returns the error of
    each, or null. If one fails, each is called again in a savepoint."""
    from django.db import transaction

    function, model = function_of(request["function"]), model_of(request["model"])
    try:
        rows = everything(model).in_bulk(request["keys"])
        with transaction.atomic():
            for key in request["keys"]:
                function(rows[key])
        return [None] * len(rows)
    except Exception as error:
        sys.stderr.write("each row alone, for one failed: {}\n".format(error))
    rows = everything(model).in_bulk(request["keys"])
    errors = []
    with transaction.atomic():
        for key in request["keys"]:
            try:
                if key not in rows:
                    raise LookupError("gone")
                with transaction.atomic():
                    function(rows[key])
                errors.append(None)
            except Exception as error:
                errors.append("{}: {}".format(type(error).__name__, error)[:500])
    return errors


# -- the application's own locks

#: Name -> Held.
held = {}


class Held:
    """A lock that several holders share: learners without a value in the column have the same lock
    name."""

    def __init__(self, lock, expire):
        self.lock, self.expire = lock, expire
        self.until = time.monotonic() + expire
        self.holders = set()

    def share(self, holder):
        """Adds a holder. Returns whether the lock lasts long enough for it."""
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
    """Takes the application's own lock for each row, without waiting. Returns for each whether it
    is held.

    ``function`` makes a lock of a given name; ``name`` has ``{}`` for the row's ``column``. Locks
    expire after ``expire`` seconds, for example if this process dies. ``holder``: any name, by
    which ``unlock`` releases them.
    """
    make, model = function_of(request["function"]), model_of(request["model"])
    rows = everything(model).filter(pk__in=request["keys"])
    values = dict(rows.values_list("pk", request["column"]))
    answers, holder, expire = [], request["holder"], request["expire"]
    for key in request["keys"]:
        name = request["name"].format(values.get(key))
        if name not in held:
            taken = make(name, expire=expire)
            if not taken.acquire(blocking=False):
                answers.append(False)
                continue
            held[name] = Held(taken, expire)
        answers.append(holder in held[name].holders or held[name].share(holder))
    return answers


def unlock(request):
    """Releases the holder's locks. A lock that has expired is no error."""
    for name, one in list(held.items()):
        one.holders.discard(request["holder"])
        if one.holders:
            continue
        del held[name]
        try:
            one.lock.release()
        except Exception as error:
            sys.stderr.write("a lock had ended: {}\n".format(error))


ACTIONS = {
    "about": about,
    "address": address,
    "call": call,
    "check": check,
    "count": count,
    "lock": lock,
    "make": make,
    "page": page,
    "remove": remove,
    "settings": settings,
    "unlock": unlock,
    "write": write,
}
