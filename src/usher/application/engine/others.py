"""What other workers do meanwhile to rows that a command has made due and answers for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from django.db.models import Q

from usher.application.engine.clock import database_now
from usher.application.engine.kinds import kind
from usher.application.engine.models import ReconciledQuerySet
from usher.application.engine.summary import Failure

#: A kind's name → which of its rows.
Asked = Mapping[str, Q]
#: A kind's name and the row's id.
Key = tuple[str, int]

_IDS = 1000


def held(asked: Asked) -> bool:
    """Whether another worker has any of these rows now."""
    now = database_now()
    return any(_rows(name, asked).filter(lease_until__gt=now).exists() for name in asked)


def failures(asked: Asked) -> Iterator[tuple[Key, Failure]]:
    """What is wrong now with rows that were made due, and so had no error then."""
    for name in asked:
        failing = _rows(name, asked).exclude(error_code="")
        for row in failing.select_related(*kind(name).related).iterator():
            yield (
                (name, row.pk),
                Failure(
                    name, kind(name).what(row), row.error_class, row.error_code, row.error_message
                ),
            )


def made_good(failing: Iterable[Key]) -> Iterator[Key]:
    """Those of these rows that are right by now."""
    now = database_now()
    ids: dict[str, list[int]] = {}
    for name, pk in failing:
        ids.setdefault(name, []).append(pk)
    for name, all_of_kind in ids.items():
        left = iter(all_of_kind)
        while some := list(islice(left, _IDS)):
            fine = kind(name).rows().filter(pk__in=some, error_code="")
            right = fine.exclude(next_attempt_at__lte=now).values_list("pk", flat=True)
            yield from ((name, pk) for pk in right)


def _rows(name: str, asked: Asked) -> ReconciledQuerySet:
    return kind(name).rows().filter(asked[name])
