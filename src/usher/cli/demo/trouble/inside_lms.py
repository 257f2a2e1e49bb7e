# mypy: ignore-errors
"""Steps that run inside the LMS: ``manage.py shell`` reads this file on its standard input.

The caller puts a line ``STEP = [name, arguments…]`` in front. Things are broken by changing rows of
the LMS's own tables, as its staff, another program or a restored backup would. ``update`` and
``bulk_create`` send no signals, so the application gets no message. The last line of the output is
the result, as JSON; {} for steps without a result.
"""

import json
import time
from datetime import timedelta

from django.contrib.auth.models import User
from django.utils import timezone
from oauth2_provider.models import AccessToken, RefreshToken
from social_django.models import UserSocialAuth

from usher.embedded.course_modes.models import CourseMode
from usher.embedded.course_overviews.models import CourseOverview
from usher.embedded.home import seeds
from usher.embedded.student.models import CourseEnrollment
from usher.embedded.user_api.models import RetirementState, UserRetirementStatus
from usher.lms.connections.models import ConnectedApplication
from usher.lms.events.models import Message

#: Seconds in which all messages must reach the application.
SECONDS = 120.0
#: The age that messages and runs get, so that no change looks recent.
TIME_SINCE_CONNECTION = timedelta(hours=2)


def prepare(runs):
    """Creates the course runs, and accounts that the application did not create."""
    now = timezone.now()
    # Dated back: the LMS's log of changes begins when the application is connected. If it asks
    # the LMS for changes before that time, the LMS lists every record, and the worker would repair
    # the things that ``break_things`` breaks.
    ConnectedApplication.objects.update(created=now - TIME_SINCE_CONNECTION)
    opened, later = now - timedelta(days=60), now + timedelta(days=120)
    past = now - timedelta(days=9)
    dates = {"start": opened, "end": later, "enrollment_start": opened, "enrollment_end": later}
    other_dates = {
        "closed": {"enrollment_end": past},
        "upcoming": {
            "start": now + timedelta(days=40),
            "enrollment_start": now + timedelta(days=30),
        },
    }
    for name, (key, title) in runs.items():
        seeds.create_run(key, title, **{**dates, **other_dates.get(name, {})})
    full, upgrade = _key_of(runs, "full"), _key_of(runs, "upgrade")
    CourseOverview.objects.filter(id=full).update(max_student_enrollments_allowed=1)
    CourseMode.objects.filter(course_id=upgrade, mode_slug="verified").update(
        _expiration_datetime=past
    )
    # Another learner takes the only place of the full run.
    early_bird = seeds.create_person("early_bird", "early.bird@example.org")
    CourseEnrollment.enroll(early_bird, CourseOverview.objects.get(id=full).id, mode="audit")
    # Accounts with a learner's username or e-mail address; and rosa_b, to whose account
    # ``break_things`` links the learner rosa.
    seeds.create_person("jana", "jana@learners.example", name="Jana Novakova")
    seeds.create_person("kofi", "kofi.mensah.77@example.org", name="Kofi Mensah")
    seeds.create_person("elif_1", "elif.new@learners.example", name="Elif Kaya")
    seeds.create_person("rosa_b", "rosa.b@example.org", name="Rosa Bianchi")
    _create_retired("samir_old", "samir@learners.example")
    # An account that is older than the reservation of its username does not count as the learner's
    # own account.
    User.objects.update(date_joined=opened)
    return {}


def _key_of(runs, name):
    """The course key of the run with this short name."""
    key, _ = runs[name]
    return key


def _create_retired(username, email):
    """Creates the account of a person whose data was deleted. email: the address that the person
    had."""
    user = seeds.create_person(username, f"retired.{username}@retired.invalid", active=False)
    state, _ = RetirementState.objects.get_or_create(
        state_name="COMPLETE", defaults={"state_execution_order": 100, "is_dead_end_state": True}
    )
    UserRetirementStatus.objects.get_or_create(
        user=user,
        defaults={
            "original_username": username,
            "original_email": email,
            "retired_username": f"retired__{username}",
            "retired_email": user.email,
            "current_state": state,
            "last_state": state,
            "responses": "",
        },
    )


def wait_for_messages():
    """Waits until the application has every message. Raises TimeoutError."""
    deadline = time.monotonic() + SECONDS
    while Message.objects.filter(next_attempt_at__isnull=False).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not every message reached the application in {SECONDS:.0f} s.")
        time.sleep(0.2)
    return {}


def break_things(runs):
    """Breaks one thing for each case that involves the LMS."""
    # The worker's search for changes checks records with recent messages. If all messages are old,
    # it does not find and repair the broken things.
    long_ago = timezone.now() - TIME_SINCE_CONNECTION
    Message.objects.update(created=long_ago, delivered_at=long_ago, next_attempt_at=None)
    main, other = _key_of(runs, "main"), _key_of(runs, "other")
    # ``save`` sends a signal: the application gets a message about Marek only.
    marek = User.objects.get(username="marek")
    marek.is_active = False
    marek.save()
    User.objects.filter(username="omar").delete()
    User.objects.filter(username="petra").update(username="petra_married")
    UserSocialAuth.objects.filter(uid="quentin").delete()
    UserSocialAuth.objects.filter(uid="rosa").update(user=User.objects.get(username="rosa_b"))
    _enrollments_of("tomas", main).update(is_active=False)
    _enrollments_of("uma", main).update(mode="audit")
    _enrollments_of("wanda", main).update(is_active=True)
    viktor = User.objects.get(username="viktor")
    CourseEnrollment.objects.bulk_create(
        [CourseEnrollment(user=viktor, course_id=other, mode="audit", is_active=True)]
    )
    for model in (RefreshToken, AccessToken):
        model.objects.filter(user__username="zeno").delete()
    CourseOverview.objects.filter(id=_key_of(runs, "gone")).delete()
    # The worker compares the dates of runs that have changed lately. None has, so it does not find
    # the wrong dates.
    CourseOverview.objects.update(modified=long_ago)
    return {}


def _enrollments_of(username, key):
    return CourseEnrollment.objects.filter(user__username=username, course_id=key)


def read_states(names):
    """LMS username → the state of the LMS's records of that learner."""
    return {name: _state_of(name) for name in names}


def _state_of(name):
    """Name as in ``Case.expected``, without "LMS" → value."""
    user = User.objects.filter(username=name).first()
    link = UserSocialAuth.objects.filter(uid=name).first()
    rows = CourseEnrollment.objects.filter(user=user) if user else ()
    account = "none"
    if user is not None:
        account = "active" if user.is_active else "inactive"
    return {
        "account": account,
        "linked to": link.user.username if link else "",
        "tokens": AccessToken.objects.filter(user=user).count() if user else 0,
        "enrollments": {str(row.course_id): row.mode if row.is_active else "left" for row in rows},
    }


def end_of_run(key):
    """The end of the run in the LMS, ISO 8601."""
    return CourseOverview.objects.get(id=key).end.isoformat()


name, *arguments = STEP  # noqa: F821 - set in front of this file
print(json.dumps(globals()[name](*arguments)))  # noqa: T201 - the result
