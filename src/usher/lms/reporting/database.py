"""Facts about the LMS's database."""

from __future__ import annotations

from django.apps import apps
from django.db import connection

from usher.contract.report import Column


def short_uuid_columns() -> list[Column]:
    """Columns that Django 4.2 made for UUIDs on MariaDB. The columns are too short for the values
    of this Django: Django 5.0 and later uses MariaDB's type ``uuid``, and no migration converts
    older columns."""
    if connection.vendor != "mysql" or not connection.features.has_native_uuid_field:
        return []
    nullable_by_column = {
        (model._meta.db_table, str(field.column)): field.null
        for model in apps.get_models(include_auto_created=True)
        for field in model._meta.local_fields
        if field.db_type(connection) == "uuid"
    }
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = DATABASE() AND data_type = 'char'"
        )
        short_columns = nullable_by_column.keys() & set(cursor.fetchall())
    return [
        {"table": table, "column": column, "null": nullable_by_column[table, column]}
        for table, column in sorted(short_columns)
    ]
