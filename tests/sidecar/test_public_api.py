"""An LMS without ``usher.lms``: accounts, tokens and enrollments by its public API."""

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx

from tests.sidecar.conftest import System, without_invalid
from tests.sidecar.test_drift import course_of, mode_of, record_accounts
from tests.sidecar.test_kinds import change_user
from tests.sidecar.test_odd_learners import check_learners_with_unusual_values
from tests.sidecar.test_reconcile import (
    ACCOUNT,
    TOKEN,
    mode_field,
    name_for,
    only_for,
    tokens_of,
    wait_until,
)
from tests.support.faults import LOST_ANSWER, THROTTLED, faulty_proxy
from tests.support.stand_ins import BASE_URL, StandIn
from usher.client.errors import EnrollmentRefused
from usher.sidecar.enrollments import make_sender


def test_enrollments_are_created_by_the_public_api(stock_system: System) -> None:
    name, course, mode = (
        f"{stock_system.application.name[:5]}public",
        course_of(stock_system),
        mode_of(stock_system),
    )
    stock_system.create_users(name)
    stock_system.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        "from usher.embedded.student.models import UserProfile\n"
        f"user = get_user_model().objects.create_user({name!r}, '{name}@example.org')\n"
        "UserProfile.objects.create(user=user, name='A learner')"
    )
    record_accounts(stock_system, name)
    more = {"enrollment_mode": mode} if stock_system.application.name == "mitxonline" else {}
    stock_system.create_enrollment(name, course, **more)
    stock_system.create_enrollment(name, "course-v1:no+such+run")

    result = stock_system.json("reconcile", "--kind", "enrollment")

    assert result["kinds"]["enrollment"]["done"] == 1, result
    assert result["kinds"]["enrollment"]["refused"] == 1
    assert stock_system.enrollments_in_lms(name) == {(course, mode, True)}
    enrolled = stock_system.rows(
        "courses.CourseRunEnrollment", "run__courseware_id", edx_enrolled=True, user__username=name
    )
    assert enrolled == [(course,)]
    stock_system.application.run(
        "from courses.models import CourseRunEnrollment\n"
        "CourseRunEnrollment.objects.filter(edx_enrolled=False).update(active=False)\n"
        "result = None"
    )


def test_a_mode_that_a_run_does_not_offer_is_requested_once() -> None:
    """The platform allows 120 requests a minute, and refused requests count, too."""
    requests: list[tuple[str, str]] = []

    def enroll(name: str, course: str, *, mode: str, **_: Any) -> None:
        requests.append((course, mode))
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
        send = make_sender(system, pool, batched=False)
        results = send(items, "audit")
        assert {result["status"] for result in results.values()} == {"changed"}
        assert Counter(requests) == {
            ("a", "no-id-professional"): 1,
            ("b", "no-id-professional"): 1,
            ("a", "audit"): 3,
            ("b", "audit"): 2,
        }
        (refused,) = send(items[:1]).values()
        assert refused["error"]["code"] == "mode-not-offered"


@only_for("mitxonline")
def test_modes_of_a_run_are_read_from_the_public_api(stock_system: System) -> None:
    course = course_of(stock_system)
    stock_system.application.run(
        "from courses.models import Course, CourseRun\n"
        f"course, _ = Course.objects.get_or_create(readable_id={course!r}, title='A course')\n"
        "CourseRun.objects.get_or_create(course=course, title='A run', run_tag='R1', live=True,\n"
        f"    courseware_id={course!r})\nresult = None"
    )
    result = stock_system.json("reconcile", "--kind", "run-mode", "--run", course)
    assert result["kinds"]["run-mode"]["done"] == 1, result
    modes_in_lms = stock_system.lms.shell(
        "from usher.embedded.course_modes.models import CourseMode\n"
        f"print(*sorted(CourseMode.objects.filter(course_id={course!r})"
        ".values_list('mode_slug', flat=True)))"
    )
    modes_in_application = stock_system.rows(
        "courses.CourseRun", "enrollment_modes__mode_slug", courseware_id=course
    )
    assert sorted(slug for (slug,) in modes_in_application) == modes_in_lms.split()


def test_accounts_and_tokens_are_created_and_a_second_run_has_nothing_to_do(
    stock_system: System,
) -> None:
    names = [name_for(stock_system, f"made{number}") for number in range(20)]
    course = course_of(stock_system)
    stock_system.create_users(*names)
    stock_system.create_enrollment(names[0], course, **mode_field(stock_system))

    result = stock_system.json("reconcile")

    assert result["ok"], result
    assert result["kinds"]["account"]["done"] == 20
    assert stock_system.enrollments_in_lms(names[0]) == {(course, mode_of(stock_system), True)}
    rows = stock_system.rows(
        ACCOUNT[stock_system.application.name], "has_been_synced", user__username__in=names
    )
    assert rows == [(True,)] * 20
    for name in names:
        ((access, _),) = tokens_of(stock_system, name)
        assert owner_of_token(stock_system, access) == name
    assert own_code_refreshes_token(stock_system, names[0])
    assert count_codes_and_tokens(stock_system) == [0, 0]
    second_run = without_invalid(stock_system.json("reconcile"))
    assert (second_run["ok"], second_run["kinds"], second_run["reasons"]) == (True, {}, [])


def test_the_sidecar_and_the_application_may_create_accounts_at_the_same_time(
    stock_system: System,
) -> None:
    """Each learner gets one account and a valid token while the application's own code and the
    sidecar both create accounts and renew tokens. Neither program gives up a learner because the
    other program was first."""
    names = [name_for(stock_system, f"pair{number:02}") for number in range(16)]
    stock_system.create_users(*names)
    application_process = subprocess.Popen(
        [sys.executable, "manage.py", "shell", "-c", _REGISTER_WITH_OWN_CODE.format(names=names)],
        cwd=stock_system.application.folder,
        env=stock_system.application.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert application_process.stdout
    assert any(line == "first\n" for line in application_process.stdout)
    assert application_process.poll() is None
    result = stock_system.json("reconcile", "--kind", "account")
    output, _ = application_process.communicate(timeout=300)
    assert application_process.returncode == 0, output
    assert result["ok"], result
    # The first run skipped rows that the application had locked.
    wait_until(lambda: stock_system.json("reconcile", "--kind", "account")["kinds"] == {})

    account_model = ACCOUNT[stock_system.application.name]
    rows = stock_system.rows(
        account_model, "user__username", "has_been_synced", user__username__in=names
    )
    assert sorted(rows) == [(name, True) for name in names]
    if stock_system.application.name == "mitxonline":
        assert (
            stock_system.rows(account_model, "pk", user__username__in=names, has_sync_error=True)
            == []
        )
    for name in names:
        ((access, _),) = tokens_of(stock_system, name)
        assert owner_of_token(stock_system, access) == name
    prefix = name_for(stock_system, "pair")
    usernames_in_lms = stock_system.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        f"print(*get_user_model().objects.filter(email__startswith={prefix!r})"
        ".values_list('username', flat=True).order_by('username'))"
    )
    assert usernames_in_lms.split() == names


#: A script that processes each learner twice with the application's own code: it registers the
#: learner, and refreshes the token if there is one. It prints "first" after the first learner.
_REGISTER_WITH_OWN_CODE = """
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


def test_a_registration_whose_answer_is_lost_is_completed_later(stock_system: System) -> None:
    names = [name_for(stock_system, f"answer{number}") for number in range(3)]
    stock_system.create_users(*names)
    with faulty_proxy(stock_system.lms.url) as proxy:
        proxy.break_next(LOST_ANSWER, path="/registration/", times=2)
        result = stock_system.json("reconcile", "--lms-url", proxy.url)
    assert result["kinds"]["account"]["refused"] == 0, result
    wait_until(lambda: not without_invalid(stock_system.json("reconcile"))["kinds"])
    for name in names:
        ((access, _),) = tokens_of(stock_system, name)
        assert owner_of_token(stock_system, access) == name


def test_only_expired_codes_and_tokens_of_a_killed_run_are_deleted(
    stock_system: System,
) -> None:
    name = name_for(stock_system, "litter")
    stock_system.create_users(name)
    stock_system.application.run(_LEAVE_CODES_AND_TOKENS.format(name=name))
    assert stock_system.json("reconcile", "--kind", "account")["kinds"]["account"]["done"] == 1
    left = stock_system.application.run(
        "from oauth2_provider.models import AccessToken, Grant\n"
        "mine = AccessToken.objects.filter(token__contains='-litter-')\n"
        "result = [sorted(mine.values_list('token', flat=True)),\n"
        "    sorted(Grant.objects.values_list('code', flat=True))]"
    )
    assert left == [["own-litter-old", "usher-litter-new"], ["own-old", "usher-new"]]
    stock_system.application.run(
        "from oauth2_provider.models import AccessToken, Grant\n"
        "AccessToken.objects.filter(token__contains='-litter-').delete()\n"
        "Grant.objects.all().delete()\nresult = None"
    )


_LEAVE_CODES_AND_TOKENS = """
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


def test_a_learner_whose_token_is_missing_gets_a_token(stock_system: System) -> None:
    name = name_for(stock_system, "lost")
    stock_system.create_users(name)
    assert stock_system.json("reconcile")["ok"]
    model = TOKEN[stock_system.application.name].split(".")
    stock_system.application.run(
        f"from {model[0]}.models import {model[1]}\n"
        f"{model[1]}.objects.filter(user__username={name!r}).delete()\nresult = None"
    )
    assert stock_system.json("reconcile")["kinds"]["account"]["done"] == 1
    ((access, _),) = tokens_of(stock_system, name)
    assert owner_of_token(stock_system, access) == name


def test_an_account_that_a_killed_run_did_not_record_is_recorded(stock_system: System) -> None:
    name = name_for(stock_system, "halfway")
    stock_system.create_users(name)
    assert stock_system.json("reconcile")["ok"]
    account, token = (
        m.split(".")
        for m in (
            ACCOUNT[stock_system.application.name],
            TOKEN[stock_system.application.name],
        )
    )
    forget = (
        "update(has_been_synced=False)"
        if stock_system.application.name == "mitxonline"
        else "delete()"
    )
    stock_system.application.run(
        f"from {account[0]}.models import {account[1]}, {token[1]}\n"
        f"{token[1]}.objects.filter(user__username={name!r}).delete()\n"
        f"{account[1]}.objects.filter(user__username={name!r}).{forget}\nresult = None"
    )
    result = stock_system.json("reconcile")
    assert result["kinds"]["account"]["done"] == 1, result
    ((access, _),) = tokens_of(stock_system, name)
    assert owner_of_token(stock_system, access) == name


def test_an_older_account_without_a_link_is_not_given_to_the_learner(
    stock_system: System,
) -> None:
    """An LMS account of the learner's name and e-mail address is older and not linked."""
    name = name_for(stock_system, "stranger")
    stock_system.create_users(name)
    stock_system.lms.shell(
        "from datetime import timedelta\n"
        "from django.contrib.auth import get_user_model\n"
        "from django.utils import timezone\n"
        "from usher.embedded.student.models import UserProfile\n"
        f"user = get_user_model().objects.create_user({name!r}, '{name}@example.org')\n"
        "user.date_joined = timezone.now() - timedelta(days=400)\n"
        "user.save()\n"
        "UserProfile.objects.create(user=user, name='Somebody')"
    )
    result = stock_system.json("reconcile")
    assert result["kinds"]["account"]["refused"] == 1
    assert tokens_of(stock_system, name) == []
    stock_system.application.run(
        f"from users.models import User\nUser.objects.filter(username={name!r})"
        ".update(is_active=False)\nresult = None"
    )


def test_learners_with_unusual_values_do_not_stop_the_others(stock_system: System) -> None:
    check_learners_with_unusual_values(stock_system)


def test_the_kind_profile_changes_name_and_email_in_the_lms(stock_system: System) -> None:
    name = name_for(stock_system, "moved")
    stock_system.create_users(name)
    assert stock_system.json("reconcile")["ok"]
    change_user(stock_system, name)
    result = stock_system.json("reconcile", "--kind", "profile")
    assert result["kinds"]["profile"]["done"] == 1, result
    (account,) = stock_system.api("GET", f"/api/user/v1/accounts?username={name}")
    assert (account["name"], account["email"]) == ("Another Name", f"{name}@new.example")


def test_an_application_that_the_lms_can_not_reach_is_reported_and_no_account_is_given_up(
    application: StandIn, stock_system: System
) -> None:
    name = name_for(stock_system, "alone")
    stock_system.create_users(name)
    stock_system.lms.shell(_API_ROOT.format("http://127.0.0.1:1/"))
    try:
        result = stock_system.usher("reconcile")
    finally:
        stock_system.lms.shell(
            _API_ROOT.format(stock_system.application.values[BASE_URL[application.name]] + "/")
        )
    assert result.exit_code == 2
    assert "API_ROOT" in result.output, result.output
    assert stock_system.json("reconcile")["kinds"]["account"]["done"] == 1


_API_ROOT = """
import json
from usher.embedded.third_party_auth.models import OAuth2ProviderConfig
for record in OAuth2ProviderConfig.objects.all():
    settings = json.loads(record.other_settings)
    settings["API_ROOT"] = {!r}
    record.other_settings = json.dumps(settings)
    record.save()
"""


def own_code_refreshes_token(stock_system: System, name: str) -> bool:
    ((_, refresh),) = tokens_of(stock_system, name)
    new_refresh_token = stock_system.application.run(
        "from users.models import User\n"
        f"from {TOKEN[stock_system.application.name].split('.')[0]}.api import store_tokens\n"
        f"result = store_tokens(User.objects.get(username={name!r})).refresh_token"
    )
    return bool(new_refresh_token) and new_refresh_token != refresh


def count_codes_and_tokens(stock_system: System) -> Any:
    """How many codes and access tokens of the sidecar are left in the application: [codes,
    tokens]."""
    return stock_system.application.run(
        "from oauth2_provider.models import AccessToken, Grant\n"
        "result = [Grant.objects.count(), AccessToken.objects.filter(\n"
        "    source_refresh_token=None, refresh_token=None).count()]"
    )


def owner_of_token(stock_system: System, access: str) -> str:
    headers = {"Authorization": f"Bearer {access}"}
    return str(
        httpx.get(f"{stock_system.lms.url}/api/user/v1/me", headers=headers).json()["username"]
    )


def test_a_run_waits_for_a_rate_limit_and_continues(stock_system: System) -> None:
    names = [name_for(stock_system, f"limited{number}") for number in range(3)]
    stock_system.create_users(*names)
    with faulty_proxy(stock_system.lms.url) as proxy:
        proxy.break_next(THROTTLED, path="/registration/", times=2)
        result = stock_system.json("reconcile", "--kind", "account", "--lms-url", proxy.url)
    account = result["kinds"]["account"]
    assert account == {"done": 3, "refused": 0, "failed": 0, "skipped": 0, "invalid": 0}, result
    assert result["ok"] and not result["reasons"]


def test_a_rate_limit_that_refuses_every_request_ends_the_run(stock_system: System) -> None:
    stock_system.create_users(name_for(stock_system, "shut"))
    with faulty_proxy(stock_system.lms.url) as proxy:
        proxy.break_all(THROTTLED, path="/registration/")
        result = stock_system.json("reconcile", "--kind", "account", "--lms-url", proxy.url)
        number_of_requests = proxy.count("/registration/")
    assert (result["ok"], result["kinds"]["account"]["failed"]) == (False, 1)
    assert number_of_requests == 3
    stock_system.json("reconcile", "--kind", "account")
