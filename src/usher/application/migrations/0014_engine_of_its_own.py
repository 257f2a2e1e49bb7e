"""Watermarks and outstanding messages move to the tables of ``usher.engine``."""

from django.db import migrations

_COLUMNS = {"watermark": "what, since, asked_at", "outstandingmessage": "name, until"}


def _moved(old, new):
    """SQL statements that move all rows from the tables with the prefix ``old`` to the tables with
    the prefix ``new``."""
    for table, columns in _COLUMNS.items():
        yield (
            f"INSERT INTO {new}_{table} ({columns}) "  # noqa: S608 - names of this file
            f"SELECT {columns} FROM {old}_{table}"
        )
        yield f"DELETE FROM {old}_{table}"  # noqa: S608


class Migration(migrations.Migration):
    dependencies = [
        ("usher", "0013_retirement_of_unproven"),
        ("usher_engine", "0001_initial"),
    ]

    operations = [
        migrations.RunSQL(
            list(_moved("usher", "usher_engine")), list(_moved("usher_engine", "usher"))
        ),
        migrations.DeleteModel(name="OutstandingMessage"),
        migrations.DeleteModel(name="Watermark"),
    ]
