"""On each database, rows keep their work when migrations are applied or reversed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Q
from django.utils import timezone

COLUMNS = [("usher", "0014_engine_of_its_own")]
MANY = 100_000

BEFORE = [("usher", "0013_retirement_of_unproven")]


def migrated(targets: list[tuple[str, str]]) -> Any:
    """Migrates to these migrations, forward or back, and returns the models."""
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
    migrated(newest)


def test_watermarks_and_messages_move_to_the_engine_and_back(latest):
    old = migrated(BEFORE)
    old.get_model("usher", "Watermark").objects.create(
        what="enrollments", since="2026-11-28T10:00:00Z", asked_at=timezone.now()
    )
    old.get_model("usher", "OutstandingMessage").objects.create(name="a:0", until=timezone.now())

    new = migrated(latest)
    mark = new.get_model("usher_engine", "Watermark").objects.get()
    assert (mark.name, mark.since) == ("enrollments", "2026-11-28T10:00:00Z")
    assert new.get_model("usher_engine", "OutstandingMessage").objects.get().name == "a:0"

    old = migrated(BEFORE)
    assert old.get_model("usher", "Watermark").objects.get().asked_at == mark.asked_at


def test_everything_that_is_known_of_many_rows_moves_to_one_table_and_back(latest):
    old = migrated(COLUMNS)
    now = timezone.now()
    states = [
        {"next_attempt_at": now, "lane": 0, "attempts": 0},
        {"next_attempt_at": now, "lane": 2, "attempts": 3, "error_class": "transient"},
        {"next_attempt_at": None, "parked_at": now, "attempts": 1, "error_code": "closed"},
        {"next_attempt_at": None, "observed_generation": 1},
    ]
    model = old.get_model("usher", "Retirement")
    model.objects.bulk_create(
        [model(username=f"gone{n}", error_message="why", **states[n % 4]) for n in range(MANY)],
        batch_size=5000,
    )
    before = _known(model.objects)

    new = migrated(latest)
    work = new.get_model("usher_engine", "Work").objects.filter(kind="retirement")
    assert work.count() == 3 * MANY // 4, "what is settled has none"
    assert work.filter(refused_at=now, error_code="closed", attempts=1).count() == MANY // 4
    assert work.filter(due_at=now, lane=2, attempts=3).count() == MANY // 4

    old = migrated(COLUMNS)
    after = _known(old.get_model("usher", "Retirement").objects)
    assert after == before


def _known(rows: Any) -> list[Any]:
    """Columns of the rows that have work, and the number of settled rows."""
    is_open = Q(next_attempt_at__isnull=False) | Q(parked_at__isnull=False)
    columns = ("username", "next_attempt_at", "lane", "attempts", "parked_at", "error_code")
    open_rows = sorted(rows.filter(is_open).values_list(*columns, "error_class", "error_message"))
    return [*open_rows, rows.exclude(is_open).count()]
