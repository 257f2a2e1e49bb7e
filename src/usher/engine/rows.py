"""Writes different values into many rows by one prepared statement, which is executed for each row.

Django's ``bulk_update`` builds one statement with a CASE for each column and row; building it costs
more time in Python than the database saves by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection, models


def columns(model: type[models.Model], names: Iterable[str]) -> list[Any]:
    """The model's fields of these names."""
    return [model._meta.get_field(name) for name in names]


def update_rows(
    model: type[models.Model], names: Sequence[str], rows: Iterable[models.Model]
) -> None:
    """Saves these fields of existing rows, without signals."""
    fields = columns(model, names)
    quote = connection.ops.quote_name
    assignments = ", ".join(f"{quote(field.column)} = %s" for field in fields)
    sql = f"UPDATE {quote(model._meta.db_table)} SET {assignments} WHERE id = %s"  # noqa: S608
    values = [
        [
            *(field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields),
            row.pk,
        ]
        for row in rows
    ]
    if values:
        with connection.cursor() as cursor:
            cursor.executemany(sql, values)
