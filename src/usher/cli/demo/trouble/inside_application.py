# mypy: ignore-errors
"""Steps that run inside the application: ``manage.py shell`` reads this file on its standard input.

The caller puts a line ``STEP = [name, arguments…]`` in front. The last line of the output is the
result, as JSON; {} for steps without a result.
"""

import json
import time
import uuid
from datetime import timedelta

from allauth.account.models import EmailAddress
from django.contrib.auth import get_user_model
from django.utils import timezone

from usher.application.accounts.services import ensure_account, follow_profile
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import unenroll
from usher.application.lms.changes import pull_changes
from usher.application.models import LmsAccount, LmsProfile, LmsToken
from usher.application.runs.models import CourseRun
from usher.application.runs.services import ensure_run, sync_runs
from usher.application.states import state
from usher.application.tokens import vault
from usher.client import batch
from usher.engine.clock import database_now
from usher.engine.models import Watermark
from usher.engine.registry import all_kinds

User = get_user_model()
#: Seconds in which the worker must process all due rows.
SECONDS = 120.0
#: The worker is idle if it has nothing to do at so many checks one after the other. At a single
#: check it may be about to make another row due.
_MIN_IDLE_CHECKS = 3


def prepare(learners, runs):
    """Creates the learners and their enrollments, before anything is broken.

    learners: username → [full name, run, mode]; run: its short name or course key, '' for no
    enrollment. runs: short name → [course key, title].
    """
    sync_runs([key for key, _ in runs.values()], modes=True)
    for username, (name, run, mode) in learners.items():
        user = _create_person(username, name)
        if username in ("lena", "yara"):  # they have no enrollment
            ensure_account(user)
        elif run and mode:
            key = _key_of(runs, run) if run in runs else run
            _enroll_unchecked(user, ensure_run(key), mode)
    _wait_for_worker()
    return {}


def _key_of(runs, name):
    """The course key of the run with this short name."""
    key, _ = runs[name]
    return key


def _create_person(username, name, email=""):
    """Creates a user whose e-mail address is confirmed, except for Lena's, and returns the user."""
    email = email or f"{username}@learners.example"
    user, _ = User.objects.get_or_create(username=username, defaults={"email": email, "name": name})
    EmailAddress.objects.get_or_create(
        user=user, email=email, defaults={"verified": username != "lena", "primary": True}
    )
    return user


def _enroll_unchecked(user, run, mode, **work):
    """Enrolls as an import or a shop does, without checking which modes the run has. work: values
    of the enrollment's row in the work queue."""
    ensure_account(user)
    return Enrollment.objects.get_or_create(user=user, run=run, defaults={"mode": mode, **work})[0]


def unenroll_wanda(runs):
    main = CourseRun.objects.get(course_key=_key_of(runs, "main"))
    # ``break_things`` in the LMS enrolls her again afterwards.
    unenroll(User.objects.get(username="wanda"), main)
    _wait_for_worker()
    return {}


def settle():
    """Creates the state after an hour of running: all changes that the LMS reported are processed,
    and later requests list only newer ones. Otherwise the next request would list all changes, and
    the worker would repair the broken things."""
    pull_changes()
    _wait_for_worker()
    now = timezone.now()
    for collection in (batch.ACCOUNTS, batch.ENROLLMENTS, batch.COURSE_RUNS):
        Watermark.objects.update_or_create(
            name=collection, defaults={"since": now.isoformat(), "asked_at": now}
        )
    return {}


def break_things(runs):
    """Breaks one thing for each case that involves the application. Must be called after
    ``break_things`` in the LMS."""
    now = database_now()
    other = ensure_run(_key_of(runs, "other"))
    # Marks the run as missing from the LMS, where it was deleted.
    sync_runs([_key_of(runs, "gone")], accept_missing=True)
    nadia = User.objects.get(username="nadia")
    nadia.is_active = False
    nadia.save()
    _change_address("elif", "elif.new@learners.example")
    past = now - timedelta(days=400)
    LmsToken.objects.filter(user__username="adele").update(expires_at=past)
    unreadable = {"access_token": "made with a lost key"}
    LmsToken.objects.filter(user__username="bruno").update(**unreadable)
    second_user = _create_person("xavier_work", "Xavier Dupont", "xavier@work.example")
    _enroll_unchecked(second_user, ensure_run(_key_of(runs, "main")), "audit")
    # As if a worker had been killed after it claimed the row: its lease has not ended yet.
    _enroll_unchecked(
        User.objects.get(username="clara"),
        other,
        "audit",
        lease_owner=str(uuid.uuid4()),
        lease_until=now + timedelta(minutes=9),
    )
    # The LMS was down yesterday; the row's next attempt is an hour and a half away.
    _enroll_unchecked(
        User.objects.get(username="dmitri"),
        other,
        "audit",
        attempts=14,
        due_at=now + timedelta(minutes=100),
        error_class="transient",
        error_code="server-error",
        error_message="The LMS failed with 502 at /usher/api/v1/enrollments/.",
    )
    _wait_for_worker()
    # As if an import had written last year's dates. The empty digest makes the next synchronisation
    # write the run again.
    CourseRun.objects.filter(course_key=_key_of(runs, "moved")).update(
        end=now - timedelta(days=20), digest=""
    )
    return {}


def _change_address(username, email):
    """Changes the user's e-mail address, as if the user had also confirmed it."""
    user = User.objects.get(username=username)
    user.email = email
    user.save()
    EmailAddress.objects.filter(user=user).update(email=email, verified=True)
    follow_profile(user)


def _has_work(kind):
    """Whether rows of the kind are due, or claimed by the running worker."""
    now = database_now()
    claimed = kind.rows().filter(work__lease_until__gt=now).exclude(_rows_of_clara(kind))
    return kind.rows().due(now).exists() or claimed.exists()


def _wait_for_worker():
    """Waits until the worker has nothing more to do, except for the row that the killed worker
    claimed. Raises TimeoutError."""
    deadline = time.monotonic() + SECONDS
    idle_checks = 0
    while idle_checks < _MIN_IDLE_CHECKS:
        is_busy = any(_has_work(kind) for kind in all_kinds().values())
        idle_checks = 0 if is_busy else idle_checks + 1
        if time.monotonic() > deadline:
            raise TimeoutError(f"The worker was not idle within {SECONDS:.0f} s.")
        time.sleep(0.2)


def _rows_of_clara(kind):
    """A condition that selects Clara's enrollments, and no rows of another kind."""
    from django.db.models import Q

    return Q(user__username="clara") if kind.name == "enrollment" else Q(pk__in=[])


def read_states(names):
    """Username → the state of the application's records of that learner."""
    return {name: _state_of(User.objects.get(username=name)) for name in names}


def _state_of(user):
    """Name as in ``Case.expected``, without "application" → value."""
    account = LmsAccount.objects.filter(user=user).first()
    token = LmsToken.objects.filter(user=user).first()
    profile = LmsProfile.objects.filter(user=user).first()
    rows = Enrollment.objects.filter(user=user).select_related("run")
    return {
        "account": _state_of_record(account),
        "lms username": account.username if account else "",
        "active in the LMS": account.observed_is_active if account else None,
        "token": _state_of_token(token),
        "profile": _state_of_record(profile),
        "enrollments": {row.run.course_key: _state_of_record(row) for row in rows},
        "missing": [row.run.course_key for row in rows if row.run.missing_since],
    }


def _state_of_record(row):
    """The state and, if there is one, the error code, as "Refused course-full"; "none" for None."""
    return "none" if row is None else f"{state(row)} {row.error_code}".strip()


def _state_of_token(row):
    if row is None or not row.access_token:
        return "none"
    try:
        vault.decrypt(row.access_token)
    except vault.Unreadable:
        return "unreadable"
    return "valid" if row.is_valid_for(seconds=0) else "ended"


def end_of_run(key):
    """The end of the run as the application has recorded it, ISO 8601."""
    return CourseRun.objects.get(course_key=key).end.isoformat()


name, *arguments = STEP  # noqa: F821 - set in front of this file
print(json.dumps(globals()[name](*arguments)))  # noqa: T201 - the result
