"""MITx Online's and MIT xPro's own tables: what doctor tells of them, and of what it can't know."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.shapes import Shape
from usher.doctor.check import Finding, Status
from usher.doctor.checks.enr import NobodyWasGivenUp
from usher.doctor.context import Context, look_at
from usher.doctor.find import Wishes, places
from usher.doctor.runner import run

pytestmark = pytest.mark.xdist_group("doctor-shapes")
LEARNER = """
from datetime import timedelta
from django.contrib.auth import get_user_model
from django.utils import timezone
from openedx.models import OpenEdxUser
long_ago = timezone.now() - timedelta(hours=1)
user = get_user_model().objects.create(email="zoe@example.org", username="zoe", is_active=True)
type(user).objects.filter(pk=user.pk).update(last_login=long_ago, created_on=long_ago)
result = user.pk
"""


@pytest.fixture(scope="module")
def mitxonline(tmp_path_factory: pytest.TempPathFactory) -> Shape:
    return Shape(tmp_path_factory.mktemp("shape") / "mitxonline", "mitxonline")


def look(shape: Shape) -> Context:
    manage = f"env {' '.join(f'{k}={v}' for k, v in shape.values.items())} {shape.command}"
    return look_at(places(Wishes(application=str(shape.folder), manage=manage)))


def findings(shape: Shape, *only: str) -> dict[str, Finding]:
    with look(shape) as context:
        return {line.id: line.finding for line in run(context, only).lines}


def test_app_9_and_enr_5_by_its_own_tables(mitxonline: Shape) -> None:
    mitxonline.run(LEARNER)
    names = ("APP-9", "ACC-1")
    before: dict[str, Any] = findings(mitxonline, *names)
    assert before["APP-9"].status is Status.NOTE  # "APP-9"
    assert "zoe@example.org" in before["APP-9"].seen
    mitxonline.run(
        "from django.contrib.auth import get_user_model\nfrom openedx.models import OpenEdxUser\n"
        "OpenEdxUser.objects.create(user=get_user_model().objects.get(username='zoe'),"
        " edx_username='zoe', has_sync_error=True, sync_error_data={'username': ['taken']})\n"
        "result = 1"
    )
    assert findings(mitxonline, "APP-9")["APP-9"].status is Status.OK
    assert findings(mitxonline, "ENR-5")["ENR-5"].status is Status.SKIPPED  # no LMS is known
    with look(mitxonline) as context:
        (error,) = context.application.errors("account", "has-sync-error")
        found = NobodyWasGivenUp().probe(context)
    assert (error["count"], error["sample"]) == (1, "zoe@example.org")
    assert found.status is Status.WARNING
    assert "zoe@example.org" in found.seen


def test_what_its_tables_can_t_tell_is_skipped(tmp_path: Path, mitxonline: Shape) -> None:
    found = findings(mitxonline)
    for name in ("OPS-1", "OPS-3", "OPS-5", "ACC-7", "CRS-1"):
        assert found[name].status is Status.SKIPPED, name
