"""An LMS without ``usher.lms``: accounts, tokens and enrollments by its public API."""

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx

from tests.sidecar.conftest import System, without_invalid
from tests.sidecar.test_drift import course_of, mode_of, recorded
from tests.sidecar.test_kinds import changed_user
from tests.sidecar.test_odd_learners import none_fails_another
from tests.sidecar.test_reconcile import ACCOUNT, TOKEN, _until, name_for, only_for, tokens
from tests.support.faults import LOST_ANSWER, THROTTLED, faulty_proxy
from tests.support.stand_ins import BASE_URL, StandIn
from usher.client.errors import EnrollmentRefused
from usher.sidecar.enrollments import sender


def test_enrollments_are_made_by_the_public_api(plain: System) -> None:
    name, course, mode = f"{plain.application.name[:5]}public", course_of(plain), mode_of(plain)
    plain.people(name)
    plain.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        "from usher.embedded.student.models import UserProfile\n"
        f"user = get_user_model().objects.create_user({name!r}, '{name}@example.org')\n"
        "UserProfile.objects.create(user=user, name='A learner')"
    )
    recorded(plain, name)
    more = {"enrollment_mode": mode} if plain.application.name == "mitxonline" else {}
    plain.enroll(name, course, **more)
    plain.enroll(name, "course-v1:no+such+run")

    result = plain.json("reconcile", "--kind", "enrollment")

    assert result["kinds"]["enrollment"]["done"] == 1, result
    assert result["kinds"]["enrollment"]["refused"] == 1
    assert plain.enrollments_in_lms(name) == {(course, mode, True)}
    enrolled = plain.rows(
        "courses.CourseRunEnrollment", "run__courseware_id", edx_enrolled=True, user__username=name
    )
    assert enrolled == [(course,)]
    plain.application.run(
        "from courses.models import CourseRunEnrollment\n"
        "CourseRunEnrollment.objects.filter(edx_enrolled=False).update(active=False)\n"
        "result = None"
    )


def test_a_mode_that_a_run_does_not_offer_is_asked_for_once() -> None:
    """The platform allows 120 requests a minute, and refused requests count, too."""
    asked: list[tuple[str, str]] = []

    def enroll(name: str, course: str, *, mode: str, **_: Any) -> None:
        asked.append((course, mode))
        if mode != "audit":
            raise EnrollmentRefused("no such mode", code="mode-not-offered", status=400)

    lms: Any = SimpleNamespace(enroll=enroll)
    system: Any = SimpleNamespace(lms=lms)
    items = [
        {"id": number, "username": "ada", "course_id": course, "mode": "no-id-professional"}
        | {"is_active": True, "force": True}
        for number, course in enumerate(["a", "a", "b", "a", "b"])
    ]
    with ThreadPoolExecutor(1) as pool:
        send = sender(system, pool, batched=False)
        results = send(items, "audit")
        assert {result["status"] for result in results.values()} == {"changed"}
        assert Counter(asked) == {
            ("a", "no-id-professional"): 1,
            ("b", "no-id-professional"): 1,
            ("a", "audit"): 3,
            ("b", "audit"): 2,
        }
        (refused,) = send(items[:1]).values()
        assert refused["error"]["code"] == "mode-not-offered"


@only_for("mitxonline")
def test_modes_of_runs_are_asked_for_one_by_one(plain: System) -> None:
    course = course_of(plain)
    plain.application.run(
        "from courses.models import Course, CourseRun\n"
        f"course, _ = Course.objects.get_or_create(readable_id={course!r}, title='A course')\n"
        "CourseRun.objects.get_or_create(course=course, title='A run', run_tag='R1', live=True,\n"
        f"    courseware_id={course!r})\nresult = None"
    )
    result = plain.json("reconcile", "--kind", "run-mode", "--run", course)
    assert result["kinds"]["run-mode"]["done"] == 1, result
    there = plain.lms.shell(
        "from usher.embedded.course_modes.models import CourseMode\n"
        f"print(*sorted(CourseMode.objects.filter(course_id={course!r})"
        ".values_list('mode_slug', flat=True)))"
    )
    here = plain.rows("courses.CourseRun", "enrollment_modes__mode_slug", courseware_id=course)
    assert sorted(slug for (slug,) in here) == there.split()


def test_accounts_and_tokens_are_made_and_a_second_run_has_nothing_to_do(plain: System) -> None:
    names = [name_for(plain, f"made{number}") for number in range(20)]
    course = course_of(plain)
    plain.people(*names)
    plain.enroll(names[0], course, **mode(plain))

    result = plain.json("reconcile")

    assert result["ok"], result
    assert result["kinds"]["account"]["done"] == 20
    assert plain.enrollments_in_lms(names[0]) == {(course, mode_of(plain), True)}
    rows = plain.rows(ACCOUNT[plain.application.name], "has_been_synced", user__username__in=names)
    assert rows == [(True,)] * 20
    for name in names:
        ((access, _),) = tokens(plain, name)
        assert me(plain, access) == name
    assert refreshed_by_its_own_code(plain, names[0])
    assert tokens_and_codes_left(plain) == [0, 0]
    again = without_invalid(plain.json("reconcile"))
    assert (again["ok"], again["kinds"], again["reasons"]) == (True, {}, [])


def test_the_sidecar_and_the_application_may_create_accounts_at_the_same_time(
    plain: System,
) -> None:
    """Each learner gets one account and a valid token while the application's own code and the
    sidecar both create accounts and renew tokens. Neither program gives up a learner because the
    other program was first."""
    names = [name_for(plain, f"pair{number:02}") for number in range(16)]
    plain.people(*names)
    own = subprocess.Popen(
        [sys.executable, "manage.py", "shell", "-c", _OWN.format(names=names)],
        cwd=plain.application.folder,
        env=plain.application.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert own.stdout
    assert any(line == "first\n" for line in own.stdout)
    assert own.poll() is None
    result = plain.json("reconcile", "--kind", "account")
    output, _ = own.communicate(timeout=300)
    assert own.returncode == 0, output
    assert result["ok"], result
    # The first run skipped rows that the application had locked.
    _until(lambda: plain.json("reconcile", "--kind", "account")["kinds"] == {})

    app = ACCOUNT[plain.application.name]
    rows = plain.rows(app, "user__username", "has_been_synced", user__username__in=names)
    assert sorted(rows) == [(name, True) for name in names]
    if plain.application.name == "mitxonline":
        assert plain.rows(app, "pk", user__username__in=names, has_sync_error=True) == []
    for name in names:
        ((access, _),) = tokens(plain, name)
        assert me(plain, access) == name
    there = plain.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"print(*get_user_model().objects.filter(email__startswith={name_for(plain, 'pair')!r})"
        ".values_list('username', flat=True).order_by('username'))"
    )
    assert there.split() == names


#: A script that processes each learner twice with the application's own code: it registers the
#: learner, and refreshes the token if there is one. It prints "first" after the first learner.
_OWN = """
from importlib import import_module
from django.apps import apps
from users.models import User
where = "openedx" if apps.is_installed("openedx") else "courseware"
api, models = import_module(where + ".api"), import_module(where + ".models")
users = list(User.objects.filter(username__in={names!r}).order_by("username"))
for user in users + users:
    try:
        api.create_edx_user(user)
        if models.OpenEdxApiAuth.objects.filter(user=user).exists():
            api.store_tokens(user)
    except Exception as error:
        print("failed", user.username, repr(error), flush=True)
    if user == users[0]:
        print("first", flush=True)
"""


def test_a_registration_whose_answer_is_lost_is_taken_up(plain: System) -> None:
    names = [name_for(plain, f"answer{number}") for number in range(3)]
    plain.people(*names)
    with faulty_proxy(plain.lms.url) as proxy:
        proxy.break_next(LOST_ANSWER, path="/registration/", times=2)
        result = plain.json("reconcile", "--lms-url", proxy.url)
    assert result["kinds"]["account"]["refused"] == 0, result
    _until(lambda: not without_invalid(plain.json("reconcile"))["kinds"])
    for name in names:
        ((access, _),) = tokens(plain, name)
        assert me(plain, access) == name


def test_codes_and_tokens_that_a_killed_run_left_are_removed_and_no_others(plain: System) -> None:
    name = name_for(plain, "litter")
    plain.people(name)
    plain.application.run(_LITTER.format(name=name))
    assert plain.json("reconcile", "--kind", "account")["kinds"]["account"]["done"] == 1
    left = plain.application.run(
        "from oauth2_provider.models import AccessToken, Grant\n"
        "mine = AccessToken.objects.filter(token__contains='-litter-')\n"
        "result = [sorted(mine.values_list('token', flat=True)),\n"
        "    sorted(Grant.objects.values_list('code', flat=True))]"
    )
    assert left == [["own-litter-old", "usher-litter-new"], ["own-old", "usher-new"]]
    plain.application.run(
        "from oauth2_provider.models import AccessToken, Grant\n"
        "AccessToken.objects.filter(token__contains='-litter-').delete()\n"
        "Grant.objects.all().delete()\nresult = None"
    )


_LITTER = """
from datetime import timedelta
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application, Grant
from users.models import User
more = dict(user=User.objects.get(username="{name}"), scope="user:read",
            application=Application.objects.get(name="edx-oauth-app"))
old, new = timezone.now() - timedelta(hours=1), timezone.now() + timedelta(hours=1)
for start, age, expires in (("usher", "old", old), ("usher", "new", new), ("own", "old", old)):
    AccessToken.objects.create(token=start + "-litter-" + age, expires=expires, **more)
    Grant.objects.create(code=start + "-" + age, expires=expires, redirect_uri="http://x", **more)
result = None
"""


def test_a_learner_with_an_account_gets_a_token(plain: System) -> None:
    name = name_for(plain, "lost")
    plain.people(name)
    assert plain.json("reconcile")["ok"]
    model = TOKEN[plain.application.name].split(".")
    plain.application.run(
        f"from {model[0]}.models import {model[1]}\n"
        f"{model[1]}.objects.filter(user__username={name!r}).delete()\nresult = None"
    )
    assert plain.json("reconcile")["kinds"]["account"]["done"] == 1
    ((access, _),) = tokens(plain, name)
    assert me(plain, access) == name


def test_an_account_that_a_killed_run_did_not_record_is_taken_up(plain: System) -> None:
    name = name_for(plain, "halfway")
    plain.people(name)
    assert plain.json("reconcile")["ok"]
    account, token = (
        m.split(".") for m in (ACCOUNT[plain.application.name], TOKEN[plain.application.name])
    )
    forget = (
        "update(has_been_synced=False)" if plain.application.name == "mitxonline" else "delete()"
    )
    plain.application.run(
        f"from {account[0]}.models import {account[1]}, {token[1]}\n"
        f"{token[1]}.objects.filter(user__username={name!r}).delete()\n"
        f"{account[1]}.objects.filter(user__username={name!r}).{forget}\nresult = None"
    )
    result = plain.json("reconcile")
    assert result["kinds"]["account"]["done"] == 1, result
    ((access, _),) = tokens(plain, name)
    assert me(plain, access) == name


def test_the_account_of_another_person_is_not_taken(plain: System) -> None:
    """An LMS account of the learner's name and e-mail address is older and not linked."""
    name = name_for(plain, "stranger")
    plain.people(name)
    plain.lms.shell(
        "from datetime import timedelta\n"
        "from django.contrib.auth import get_user_model\n"
        "from django.utils import timezone\n"
        "from usher.embedded.student.models import UserProfile\n"
        f"user = get_user_model().objects.create_user({name!r}, '{name}@example.org')\n"
        "user.date_joined = timezone.now() - timedelta(days=400)\n"
        "user.save()\n"
        "UserProfile.objects.create(user=user, name='Somebody')"
    )
    result = plain.json("reconcile")
    assert result["kinds"]["account"]["refused"] == 1
    assert tokens(plain, name) == []
    plain.application.run(
        f"from users.models import User\nUser.objects.filter(username={name!r})"
        ".update(is_active=False)\nresult = None"
    )


def test_an_odd_learner_fails_no_other(plain: System) -> None:
    none_fails_another(plain)


def test_name_and_email_follow_the_application(plain: System) -> None:
    name = name_for(plain, "moved")
    plain.people(name)
    assert plain.json("reconcile")["ok"]
    changed_user(plain, name)
    result = plain.json("reconcile", "--kind", "profile")
    assert result["kinds"]["profile"]["done"] == 1, result
    (account,) = plain.api("GET", f"/api/user/v1/accounts?username={name}")
    assert (account["name"], account["email"]) == ("Another Name", f"{name}@new.example")


def test_an_application_that_does_not_answer_the_lms_is_reported_and_no_learner_given_up(
    application: StandIn, plain: System
) -> None:
    name = name_for(plain, "alone")
    plain.people(name)
    plain.lms.shell(_API_ROOT.format("http://127.0.0.1:1/"))
    try:
        result = plain.usher("reconcile")
    finally:
        plain.lms.shell(
            _API_ROOT.format(plain.application.values[BASE_URL[application.name]] + "/")
        )
    assert result.exit_code == 2
    assert "API_ROOT" in result.output, result.output
    assert plain.json("reconcile")["kinds"]["account"]["done"] == 1


_API_ROOT = """
import json
from usher.embedded.third_party_auth.models import OAuth2ProviderConfig
for record in OAuth2ProviderConfig.objects.all():
    settings = json.loads(record.other_settings)
    settings["API_ROOT"] = {!r}
    record.other_settings = json.dumps(settings)
    record.save()
"""


def refreshed_by_its_own_code(plain: System, name: str) -> bool:
    ((_, refresh),) = tokens(plain, name)
    found = plain.application.run(
        "from users.models import User\n"
        f"from {TOKEN[plain.application.name].split('.')[0]}.api import store_tokens\n"
        f"result = store_tokens(User.objects.get(username={name!r})).refresh_token"
    )
    return bool(found) and found != refresh


def tokens_and_codes_left(plain: System) -> Any:
    """How many codes and access tokens of the sidecar are left in the application: [codes,
    tokens]."""
    return plain.application.run(
        "from oauth2_provider.models import AccessToken, Grant\n"
        "result = [Grant.objects.count(), AccessToken.objects.filter(\n"
        "    source_refresh_token=None, refresh_token=None).count()]"
    )


def me(plain: System, access: str) -> str:
    headers = {"Authorization": f"Bearer {access}"}
    return str(httpx.get(f"{plain.lms.url}/api/user/v1/me", headers=headers).json()["username"])


def mode(plain: System) -> dict[str, str]:
    return {"enrollment_mode": mode_of(plain)} if plain.application.name == "mitxonline" else {}


def test_a_rate_limit_is_waited_for_and_the_run_continues(plain: System) -> None:
    names = [name_for(plain, f"limited{number}") for number in range(3)]
    plain.people(*names)
    with faulty_proxy(plain.lms.url) as proxy:
        proxy.break_next(THROTTLED, path="/registration/", times=2)
        result = plain.json("reconcile", "--kind", "account", "--lms-url", proxy.url)
    account = result["kinds"]["account"]
    assert account == {"done": 3, "refused": 0, "failed": 0, "skipped": 0, "invalid": 0}, result
    assert result["ok"] and not result["reasons"]


def test_a_rate_limit_that_lets_nothing_through_ends_the_run(plain: System) -> None:
    plain.people(name_for(plain, "shut"))
    with faulty_proxy(plain.lms.url) as proxy:
        proxy.break_all(THROTTLED, path="/registration/")
        result = plain.json("reconcile", "--kind", "account", "--lms-url", proxy.url)
        asked = proxy.count("/registration/")
    assert (result["ok"], result["kinds"]["account"]["failed"]) == (False, 1)
    assert asked == 3
    plain.json("reconcile", "--kind", "account")
