"""An LMS without ``usher.lms``: accounts, tokens and enrollments by its public API."""

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx

from tests.sidecar.conftest import NO_SERVER, System, name_for, without_invalid_rows
from tests.sidecar.test_drift import course_of, mode_of, record_accounts
from tests.sidecar.test_kinds import change_user
from tests.sidecar.test_odd_learners import check_learners_with_unusual_values
from tests.sidecar.test_reconcile import ACCOUNT, TOKEN, mode_field, only_for, tokens_of, wait_until
from tests.support.faults import LOST_ANSWER, THROTTLED, faulty_proxy
from tests.support.stand_ins import BASE_URL, StandIn
from usher.client.errors import EnrollmentRefused
from usher.sidecar.enrollments import make_sender


def test_enrollments_are_created_by_the_public_api(public_api_system: System) -> None:
    name = name_for(public_api_system, "public")
    course, mode = course_of(public_api_system), mode_of(public_api_system)
    public_api_system.create_users(name)
    # An account in the LMS, which the application has recorded.
    public_api_system.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        "from usher.embedded.student.models import UserProfile\n"
        f"user = get_user_model().objects.create_user({name!r}, '{name}@example.org')\n"
        "UserProfile.objects.create(user=user, name='A learner')"
    )
    record_accounts(public_api_system, name)
    public_api_system.create_enrollment(name, course, **mode_field(public_api_system))
    public_api_system.create_enrollment(name, "course-v1:no+such+run")

    result = public_api_system.json("reconcile", "--kind", "enrollment")

    assert result["kinds"]["enrollment"]["done"] == 1, result
    assert result["kinds"]["enrollment"]["refused"] == 1
    assert public_api_system.enrollments_in_lms(name) == {(course, mode, True)}
    enrolled = public_api_system.rows(
        "courses.CourseRunEnrollment", "run__courseware_id", edx_enrolled=True, user__username=name
    )
    assert enrolled == [(course,)]
    public_api_system.deactivate_enrollments(name)


def test_a_mode_that_a_run_does_not_offer_is_requested_once() -> None:
    """The sender remembers the refused modes of each run, because the platform allows 120 requests
    a minute, and refused requests count, too."""
    requests: list[tuple[str, str]] = []

    def enroll(name: str, course: str, *, mode: str, **_: Any) -> None:
        requests.append((course, mode))
        if mode != "audit":
            raise EnrollmentRefused("no such mode", code="mode-not-offered", status=400)

    lms: Any = SimpleNamespace(enroll=enroll)
    session: Any = SimpleNamespace(lms=lms)
    items = [
        {"id": number, "username": "ada", "course_id": course, "mode": "no-id-professional"}
        | {"is_active": True, "force": True}
        for number, course in enumerate(["a", "a", "b", "a", "b"])
    ]
    with ThreadPoolExecutor(1) as pool:
        send = make_sender(session, pool, batched=False)
        results = send(items, fallback_mode="audit")
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
def test_modes_of_a_run_are_read_from_the_public_api(public_api_system: System) -> None:
    course = course_of(public_api_system)
    public_api_system.application.run(
        "from courses.models import Course, CourseRun\n"
        f"course, _ = Course.objects.get_or_create(readable_id={course!r}, title='A course')\n"
        "CourseRun.objects.get_or_create(course=course, title='A run', run_tag='R1', live=True,\n"
        f"    courseware_id={course!r})\nresult = None"
    )
    result = public_api_system.json("reconcile", "--kind", "run-mode", "--run", course)
    assert result["kinds"]["run-mode"]["done"] == 1, result
    modes_in_lms = public_api_system.lms.shell(
        "from usher.embedded.course_modes.models import CourseMode\n"
        f"print(*sorted(CourseMode.objects.filter(course_id={course!r})"
        ".values_list('mode_slug', flat=True)))"
    )
    modes_in_application = public_api_system.rows(
        "courses.CourseRun", "enrollment_modes__mode_slug", courseware_id=course
    )
    assert sorted(slug for (slug,) in modes_in_application) == modes_in_lms.split()


def test_accounts_and_tokens_are_created_and_a_second_reconcile_has_nothing_to_do(
    public_api_system: System,
) -> None:
    names = [name_for(public_api_system, f"made{number}") for number in range(20)]
    course = course_of(public_api_system)
    public_api_system.create_users(*names)
    public_api_system.create_enrollment(names[0], course, **mode_field(public_api_system))

    result = public_api_system.json("reconcile")

    assert result["ok"], result
    assert result["kinds"]["account"]["done"] == 20
    assert public_api_system.enrollments_in_lms(names[0]) == {
        (course, mode_of(public_api_system), True)
    }
    rows = public_api_system.rows(
        ACCOUNT[public_api_system.application.name], "has_been_synced", user__username__in=names
    )
    assert rows == [(True,)] * 20
    # The tokens are the learners', and the sidecar's own codes and tokens are deleted.
    for name in names:
        ((access, _),) = tokens_of(public_api_system, name)
        assert owner_of_token(public_api_system, access) == name
    assert own_code_refreshes_token(public_api_system, names[0])
    assert count_codes_and_tokens(public_api_system) == {"codes": 0, "tokens": 0}
    second_report = without_invalid_rows(public_api_system.json("reconcile"))
    assert (second_report["ok"], second_report["kinds"], second_report["reasons"]) == (True, {}, [])


def test_the_sidecar_and_the_application_may_create_accounts_at_the_same_time(
    public_api_system: System,
) -> None:
    """Each learner gets one account and a valid token while the application's own code and the
    sidecar both create accounts and renew tokens. Neither program gives up a learner because the
    other program was first."""
    names = [name_for(public_api_system, f"pair{number:02}") for number in range(16)]
    public_api_system.create_users(*names)
    application_process = subprocess.Popen(
        [sys.executable, "manage.py", "shell", "-c", _REGISTER_WITH_OWN_CODE.format(names=names)],
        cwd=public_api_system.application.folder,
        env=public_api_system.application.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert application_process.stdout
    # Wait until the application has created the first learner's account.
    assert any(line == "first\n" for line in application_process.stdout)
    assert application_process.poll() is None
    result = public_api_system.json("reconcile", "--kind", "account")
    output, _ = application_process.communicate(timeout=300)
    assert application_process.returncode == 0, output
    assert result["ok"], result
    # That command may have skipped rows that the application had locked.
    wait_until(lambda: public_api_system.json("reconcile", "--kind", "account")["kinds"] == {})

    account_model = ACCOUNT[public_api_system.application.name]
    rows = public_api_system.rows(
        account_model, "user__username", "has_been_synced", user__username__in=names
    )
    assert sorted(rows) == [(name, True) for name in names]
    if public_api_system.application.name == "mitxonline":
        assert (
            public_api_system.rows(
                account_model, "pk", user__username__in=names, has_sync_error=True
            )
            == []
        )
    for name in names:
        ((access, _),) = tokens_of(public_api_system, name)
        assert owner_of_token(public_api_system, access) == name
    prefix = name_for(public_api_system, "pair")
    usernames_in_lms = public_api_system.lms.shell(
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


def test_a_registration_whose_answer_is_lost_is_completed_later(public_api_system: System) -> None:
    names = [name_for(public_api_system, f"answer{number}") for number in range(3)]
    public_api_system.create_users(*names)
    with faulty_proxy(public_api_system.lms.url) as proxy:
        proxy.break_next(LOST_ANSWER, path="/registration/", times=2)
        result = public_api_system.json("reconcile", "--lms-url", proxy.url)
    assert result["kinds"]["account"]["refused"] == 0, result
    wait_until(lambda: not without_invalid_rows(public_api_system.json("reconcile"))["kinds"])
    for name in names:
        ((access, _),) = tokens_of(public_api_system, name)
        assert owner_of_token(public_api_system, access) == name


def test_only_expired_codes_and_tokens_of_a_killed_sidecar_are_deleted(
    public_api_system: System,
) -> None:
    name = name_for(public_api_system, "litter")
    public_api_system.create_users(name)
    public_api_system.application.run(_LEAVE_CODES_AND_TOKENS.format(name=name))
    assert public_api_system.json("reconcile", "--kind", "account")["kinds"]["account"]["done"] == 1
    remaining = public_api_system.application.run(
        "from oauth2_provider.models import AccessToken, Grant\n"
        "tokens = AccessToken.objects.filter(token__contains='-litter-')\n"
        "result = [sorted(tokens.values_list('token', flat=True)),\n"
        "    sorted(Grant.objects.values_list('code', flat=True))]"
    )
    assert remaining == [["own-litter-old", "usher-litter-new"], ["own-old", "usher-new"]]
    public_api_system.application.run(
        "from oauth2_provider.models import AccessToken, Grant\n"
        "AccessToken.objects.filter(token__contains='-litter-').delete()\n"
        "Grant.objects.all().delete()\nresult = None"
    )


#: A script that creates codes and tokens as a killed sidecar leaves them, whose names begin with
#: "usher", and one code and token of the application itself. Those called "old" have expired.
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


def test_a_learner_whose_token_is_missing_gets_a_token(public_api_system: System) -> None:
    name = name_for(public_api_system, "lost")
    public_api_system.create_users(name)
    assert public_api_system.json("reconcile")["ok"]
    app, token_model = TOKEN[public_api_system.application.name].split(".")
    public_api_system.application.run(
        f"from {app}.models import {token_model}\n"
        f"{token_model}.objects.filter(user__username={name!r}).delete()\nresult = None"
    )
    assert public_api_system.json("reconcile")["kinds"]["account"]["done"] == 1
    ((access, _),) = tokens_of(public_api_system, name)
    assert owner_of_token(public_api_system, access) == name


def test_an_account_that_a_killed_sidecar_did_not_record_is_recorded(
    public_api_system: System,
) -> None:
    name = name_for(public_api_system, "halfway")
    public_api_system.create_users(name)
    assert public_api_system.json("reconcile")["ok"]
    edition = public_api_system.application.name
    app, account_model = ACCOUNT[edition].split(".")
    _, token_model = TOKEN[edition].split(".")
    undo_record = "update(has_been_synced=False)" if edition == "mitxonline" else "delete()"
    public_api_system.application.run(
        f"from {app}.models import {account_model}, {token_model}\n"
        f"{token_model}.objects.filter(user__username={name!r}).delete()\n"
        f"{account_model}.objects.filter(user__username={name!r}).{undo_record}\nresult = None"
    )
    result = public_api_system.json("reconcile")
    assert result["kinds"]["account"]["done"] == 1, result
    ((access, _),) = tokens_of(public_api_system, name)
    assert owner_of_token(public_api_system, access) == name


def test_an_older_account_without_a_link_is_not_given_to_the_learner(
    public_api_system: System,
) -> None:
    """An LMS account of the learner's name and e-mail address is older and not linked."""
    name = name_for(public_api_system, "stranger")
    public_api_system.create_users(name)
    public_api_system.lms.shell(
        "from datetime import timedelta\n"
        "from django.contrib.auth import get_user_model\n"
        "from django.utils import timezone\n"
        "from usher.embedded.student.models import UserProfile\n"
        f"user = get_user_model().objects.create_user({name!r}, '{name}@example.org')\n"
        "user.date_joined = timezone.now() - timedelta(days=400)\n"
        "user.save()\n"
        "UserProfile.objects.create(user=user, name='Somebody')"
    )
    result = public_api_system.json("reconcile")
    assert result["kinds"]["account"]["refused"] == 1
    assert tokens_of(public_api_system, name) == []
    public_api_system.deactivate_users(name)


def test_learners_with_unusual_values_do_not_stop_the_others(public_api_system: System) -> None:
    check_learners_with_unusual_values(public_api_system)


def test_the_kind_profile_changes_name_and_email_in_the_lms(public_api_system: System) -> None:
    name = name_for(public_api_system, "moved")
    public_api_system.create_users(name)
    assert public_api_system.json("reconcile")["ok"]
    change_user(public_api_system, name)
    result = public_api_system.json("reconcile", "--kind", "profile")
    assert result["kinds"]["profile"]["done"] == 1, result
    (account,) = public_api_system.api("GET", f"/api/user/v1/accounts?username={name}")
    assert (account["name"], account["email"]) == ("Another Name", f"{name}@new.example")


def test_an_application_that_the_lms_can_not_reach_is_reported_and_no_account_is_given_up(
    application: StandIn, public_api_system: System
) -> None:
    name = name_for(public_api_system, "alone")
    public_api_system.create_users(name)
    public_api_system.lms.shell(_SET_API_ROOT.format(f"{NO_SERVER}/"))
    try:
        result = public_api_system.usher("reconcile")
    finally:
        public_api_system.lms.shell(
            _SET_API_ROOT.format(
                public_api_system.application.values[BASE_URL[application.name]] + "/"
            )
        )
    assert result.exit_code == 2
    assert "API_ROOT" in result.output, result.output
    assert public_api_system.json("reconcile")["kinds"]["account"]["done"] == 1


#: A script that sets the application's address in all provider records of the LMS.
_SET_API_ROOT = """
import json
from usher.embedded.third_party_auth.models import OAuth2ProviderConfig
for record in OAuth2ProviderConfig.objects.all():
    settings = json.loads(record.other_settings)
    settings["API_ROOT"] = {!r}
    record.other_settings = json.dumps(settings)
    record.save()
"""


def own_code_refreshes_token(public_api_system: System, name: str) -> bool:
    """Refreshes the learner's token with the application's own code. Returns whether the refresh
    token changed."""
    ((_, refresh),) = tokens_of(public_api_system, name)
    new_refresh_token = public_api_system.application.run(
        "from users.models import User\n"
        f"from {TOKEN[public_api_system.application.name].split('.')[0]}.api import store_tokens\n"
        f"result = store_tokens(User.objects.get(username={name!r})).refresh_token"
    )
    return bool(new_refresh_token) and new_refresh_token != refresh


def count_codes_and_tokens(public_api_system: System) -> Any:
    """How many authorization codes, and how many access tokens of the sidecar, are left in the
    application. The sidecar's access tokens have no refresh token, unlike the application's own."""
    return public_api_system.application.run(
        "from oauth2_provider.models import AccessToken, Grant\n"
        "sidecar_tokens = AccessToken.objects.filter(\n"
        "    source_refresh_token=None, refresh_token=None)\n"
        "result = {'codes': Grant.objects.count(), 'tokens': sidecar_tokens.count()}"
    )


def owner_of_token(public_api_system: System, access: str) -> str:
    """The username of the LMS account to which this access token belongs."""
    headers = {"Authorization": f"Bearer {access}"}
    return str(
        httpx.get(f"{public_api_system.lms.url}/api/user/v1/me", headers=headers).json()["username"]
    )


def test_reconcile_waits_for_a_rate_limit_and_continues(public_api_system: System) -> None:
    names = [name_for(public_api_system, f"limited{number}") for number in range(3)]
    public_api_system.create_users(*names)
    with faulty_proxy(public_api_system.lms.url) as proxy:
        proxy.break_next(THROTTLED, path="/registration/", times=2)
        result = public_api_system.json("reconcile", "--kind", "account", "--lms-url", proxy.url)
    account = result["kinds"]["account"]
    assert account == {"done": 3, "refused": 0, "failed": 0, "skipped": 0, "invalid": 0}, result
    assert result["ok"] and not result["reasons"]


def test_a_rate_limit_that_refuses_every_request_ends_reconcile(public_api_system: System) -> None:
    public_api_system.create_users(name_for(public_api_system, "shut"))
    with faulty_proxy(public_api_system.lms.url) as proxy:
        proxy.break_all(THROTTLED, path="/registration/")
        result = public_api_system.json("reconcile", "--kind", "account", "--lms-url", proxy.url)
        number_of_requests = proxy.count("/registration/")
    assert (result["ok"], result["kinds"]["account"]["failed"]) == (False, 1)
    assert number_of_requests == 3  # the first request and two repetitions
    # So that later tests don't find the account due.
    public_api_system.json("reconcile", "--kind", "account")
