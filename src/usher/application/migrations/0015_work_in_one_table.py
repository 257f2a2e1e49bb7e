"""Moves pending work from columns of nine tables to the engine's one table of work.

Keeps everything except leases: rows that a worker has claimed at this moment will be claimed again.
"""

from django.db import migrations, models
from django.db.models import F, Q

import usher.engine.models

#: Model → the name of its kind.
_KINDS = {
    "certificate": "certificate",
    "courserun": "run",
    "enrollment": "enrollment",
    "grade": "grade",
    "lmsaccount": "account",
    "lmsprofile": "profile",
    "lmstoken": "token",
    "retirement": "retirement",
    "runmodes": "mode",
}
#: Columns that the table of work has under the same names.
_KEPT = ("lane", "attempts", "error_class", "error_code", "error_message", "parked_at")
#: Columns that this migration removes from the nine tables.
_GONE = (*_KEPT, "next_attempt_at", "lease_owner", "lease_until")


def _to_work(model, kind):
    """SQL that copies the due and the refused rows of one table to the table of work."""
    kept = ", ".join(_KEPT)
    return (
        f"INSERT INTO usher_engine_work (kind, object_id, due_at, lease_owner, {kept}) "
        f"SELECT '{kind}', id, next_attempt_at, '', {kept} FROM usher_{model} "
        "WHERE next_attempt_at IS NOT NULL OR parked_at IS NOT NULL"
    )


def _to_columns(model, kind):
    """SQL that undoes ``_to_work``: copies the rows back, and deletes them from the other table."""
    kept = ", ".join(f"{name} = work.{name}" for name in _KEPT)
    return [
        f"UPDATE usher_{model} SET next_attempt_at = NULL",
        f"UPDATE usher_{model} SET next_attempt_at = work.due_at, {kept} "
        f"FROM usher_engine_work AS work "
        f"WHERE work.kind = '{kind}' AND work.object_id = usher_{model}.id",
        f"DELETE FROM usher_engine_work WHERE kind = '{kind}'",
    ]


class Migration(migrations.Migration):
    dependencies = [
        ("usher", "0014_engine_of_its_own"),
        ("usher_engine", "0002_work"),
    ]
    # This migration copies rows by the column's earlier name.
    run_before = [("usher_engine", "0003_refused_at")]

    operations = [
        *(
            migrations.RunSQL([_to_work(model, kind)], _to_columns(model, kind))
            for model, kind in _KINDS.items()
        ),
        migrations.RemoveIndex("enrollment", "enrollment_refused_of_run"),
        *(
            migrations.RemoveIndex(model, f"{model}_{what}")
            for model in _KINDS
            for what in ("queue", "refused", "leased")
        ),
        *(migrations.RemoveField(model, name) for model in _KINDS for name in _GONE),
        *(migrations.AddField(model, "work", usher.engine.models.WorkOf()) for model in _KINDS),
        *(
            migrations.AddIndex(
                model,
                models.Index(
                    fields=["id"],
                    name=f"{model}_unsettled",
                    condition=~Q(observed_generation=F("generation")),
                ),
            )
            for model in _KINDS
        ),
    ]
