"""The functions of the serial implementation that are measured, and those that create their
data."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth import get_user_model
from django.utils import timezone
from oauth2_provider.models import Application, Grant

from benchmarks.reference.courses import send_enrollments, sync_runs
from benchmarks.reference.learners import repair, session_of
from benchmarks.reference.store.models import Run, RunEnrollment
from usher.contract.oauth import EDX_OAUTH_APP

__all__ = [
    "create_codes",
    "create_enrollments",
    "create_learners",
    "create_oauth_client",
    "create_runs",
    "create_sessions",
    "repair",
    "send_enrollments",
    "sync_runs",
]


def create_oauth_client(client_id: str, client_secret: str, redirect_uris: str) -> None:
    """Creates the LMS's OAuth client. Its secret is hashed with django-oauth-toolkit's default."""
    Application.objects.create(
        name=EDX_OAUTH_APP,
        client_id=client_id,
        client_secret=client_secret,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        redirect_uris=redirect_uris,
        skip_authorization=True,
    )


def create_learners(username_pattern: str, first: int, end: int) -> int:
    """Creates users with the numbers from ``first`` to ``end - 1`` in their names; ``{}`` in the
    pattern stands for the number."""
    model = get_user_model()
    rows = []
    for number in range(first, end):
        name = username_pattern.format(number)
        rows.append(model(username=name, email=f"{name}@bench.example", first_name="Bench"))
    return len(model.objects.bulk_create(rows, batch_size=1000))


def create_runs(keys: list[str]) -> int:
    rows = [Run(course_key=key) for key in keys]
    return len(Run.objects.bulk_create(rows, batch_size=1000, ignore_conflicts=True))


def create_enrollments(username_pattern: str, first: int, end: int, enrollments_each: int) -> int:
    """Creates ``enrollments_each`` unsent enrollments for each learner."""
    users = get_user_model().objects.filter(
        username__in=[username_pattern.format(number) for number in range(first, end)]
    )
    runs = list(Run.objects.order_by("pk")[:enrollments_each])
    rows = [RunEnrollment(user=user, run=run) for user in users for run in runs]
    return len(RunEnrollment.objects.bulk_create(rows, batch_size=1000))


def create_codes(count: int, redirect_uri: str) -> list[str]:
    """Creates grants as the authorize view does, for the ``count`` newest learners. Returns their
    codes."""
    application = Application.objects.get(name=EDX_OAUTH_APP)
    users = list(get_user_model().objects.order_by("-pk")[:count])
    rows = [
        Grant(
            user=user,
            application=application,
            code=f"bench-{timezone.now().timestamp()}-{user.pk}",
            expires=timezone.now() + timedelta(minutes=30),
            redirect_uri=redirect_uri,
            scope="user:read",
        )
        for user in users
    ]
    return [row.code for row in Grant.objects.bulk_create(rows)]


def create_sessions(count: int) -> list[str]:
    """Creates sessions of signed-in learners. Returns their keys."""
    return [session_of(user) for user in get_user_model().objects.order_by("-pk")[:count]]
