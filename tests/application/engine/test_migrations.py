"""Rows keep their work through migrations, forward and back, on whichever database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

BEFORE = [("usher", "0013_retirement_of_unproven")]


def migrated(targets: list[tuple[str, str]]) -> Any:
    """The models as they are after these migrations, which are applied or undone."""
    executor = MigrationExecutor(connection)
    executor.migrate(targets)
    return MigrationExecutor(connection).loader.project_state(targets).apps


@pytest.fixture
def latest(transactional_db) -> Iterator[list[tuple[str, str]]]:
    """The newest migrations, which the tests after this one find again."""
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
    assert (mark.what, mark.since) == ("enrollments", "2026-11-28T10:00:00Z")
    assert new.get_model("usher_engine", "OutstandingMessage").objects.get().name == "a:0"

    old = migrated(BEFORE)
    assert old.get_model("usher", "Watermark").objects.get().asked_at == mark.asked_at
