"""On each database, rows keep their work when migrations are applied or reversed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Q
from django.utils import timezone

BEFORE_ENGINE_APP = [("usher", "0013_retirement_of_unproven")]
BEFORE_TABLE_OF_WORK = [("usher", "0014_engine_of_its_own")]
NUMBER_OF_ROWS = 100_000


def migrate_to(targets: list[tuple[str, str]]) -> Any:
    """Migrates to these migrations, forward or back. Returns the registry of the models as they
    are after them, in place of ``django.apps.apps``."""
    executor = MigrationExecutor(connection)
    executor.migrate(targets)
    return MigrationExecutor(connection).loader.project_state(targets).apps


@pytest.fixture
def latest(transactional_db) -> Iterator[list[tuple[str, str]]]:
    """The newest migrations. After each test, the database is migrated to the newest state
    again."""
    graph = MigrationExecutor(connection).loader.graph
    newest = [node for node in graph.leaf_nodes() if node[0] in ("usher", "usher_engine")]
    yield newest
    migrate_to(newest)


def test_watermarks_and_messages_move_to_the_engine_and_back(latest):
    old = migrate_to(BEFORE_ENGINE_APP)
    old.get_model("usher", "Watermark").objects.create(
        what="enrollments", since="2026-11-28T10:00:00Z", asked_at=timezone.now()
    )
    old.get_model("usher", "OutstandingMessage").objects.create(name="a:0", until=timezone.now())

    new = migrate_to(latest)
    mark = new.get_model("usher_engine", "Watermark").objects.get()
    assert (mark.name, mark.since) == ("enrollments", "2026-11-28T10:00:00Z")
    assert new.get_model("usher_engine", "OutstandingMessage").objects.get().name == "a:0"

    old = migrate_to(BEFORE_ENGINE_APP)
    assert old.get_model("usher", "Watermark").objects.get().asked_at == mark.asked_at


def test_the_work_of_many_rows_moves_to_one_table_and_back(latest):
    old = migrate_to(BEFORE_TABLE_OF_WORK)
    now = timezone.now()
    states = [
        {"next_attempt_at": now, "lane": 0, "attempts": 0},
        {"next_attempt_at": now, "lane": 2, "attempts": 3, "error_class": "transient"},
        {"next_attempt_at": None, "parked_at": now, "attempts": 1, "error_code": "closed"},
        {"next_attempt_at": None, "observed_generation": 1},
    ]
    model = old.get_model("usher", "Retirement")
    model.objects.bulk_create(
        [
            model(username=f"gone{n}", error_message="why", **states[n % 4])
            for n in range(NUMBER_OF_ROWS)
        ],
        batch_size=5000,
    )
    columns = _work_columns(model.objects)

    new = migrate_to(latest)
    work = new.get_model("usher_engine", "Work").objects.filter(kind="retirement")
    assert work.count() == 3 * NUMBER_OF_ROWS // 4, "settled rows have no work"
    assert (
        work.filter(refused_at=now, error_code="closed", attempts=1).count() == NUMBER_OF_ROWS // 4
    )
    assert work.filter(due_at=now, lane=2, attempts=3).count() == NUMBER_OF_ROWS // 4

    old = migrate_to(BEFORE_TABLE_OF_WORK)
    assert _work_columns(old.get_model("usher", "Retirement").objects) == columns


def _work_columns(rows: Any) -> list[Any]:
    """Sorted columns of the rows that have work, and then the number of settled rows."""
    is_open = Q(next_attempt_at__isnull=False) | Q(parked_at__isnull=False)
    columns = ("username", "next_attempt_at", "lane", "attempts", "parked_at", "error_code")
    open_rows = sorted(rows.filter(is_open).values_list(*columns, "error_class", "error_message"))
    return [*open_rows, rows.exclude(is_open).count()]
