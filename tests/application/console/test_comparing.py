"""Comparing one learner with the LMS: sign-in, token, and the results of a repair."""

from __future__ import annotations

import json
from datetime import timedelta
from html import unescape
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from tests.application.conftest import UNREACHABLE_URL
from tests.application.console.conftest import DEMO
from usher.application.accounts.models import LmsAccount
from usher.application.audit.models import AuditEvent
from usher.application.enrollments.services import enroll
from usher.application.lms_client import client
from usher.application.runs.models import CourseRun
from usher.application.runs.services import ensure_run, sync_runs
from usher.application.tokens.models import LmsToken
from usher.application.tokens.services import access_token_for
from usher.engine.services import reconcile

E2E = "course-v1:edX+E2E-101+course"
#: Scripts that the LMS runs. name, other: usernames.
REVOKE = (
    "from oauth2_provider.models import AccessToken as A, RefreshToken as R; "
    "[model.objects.filter(user__username={name!r}).delete() for model in (R, A)]"
)
UNLINK = (
    "from social_django.models import UserSocialAuth as S; S.objects.filter(uid={name!r}).delete()"
)
LINK_TO_OTHER = (
    "from social_django.models import UserSocialAuth as S; "
    "from django.contrib.auth import get_user_model as g; "
    "S.objects.filter(uid={name!r}).update(user=g().objects.get(username={other!r}))"
)
RENAME = (
    "from django.contrib.auth import get_user_model as g; "
    "g().objects.filter(username={name!r}).update(username={other!r})"
)


@pytest.fixture
def staff(superuser: Client) -> Client:
    """The browser of a superuser: a staff member would need rows of permissions, which other tests
    delete."""
    return superuser


class Page:
    """Compares the learner with the LMS. Keeps the text and the template context of the page."""

    def __init__(self, staff: Client, user: Any) -> None:
        answer = staff.post(f"/staff/learners/{user.pk}/compare/")
        self.text = unescape(answer.content.decode())
        self.headline = answer.context["headline"]
        compared = answer.context["compared"]
        self.problem = compared.problem
        self.comparisons = {comparison.subject: comparison for comparison in compared.comparisons}
        self.command = compared.command
        self.differing = [
            comparison.subject for comparison in compared.comparisons if comparison.differs
        ]


def repair(staff: Client, user: Any) -> None:
    """Presses the button that repairs the learner's records."""
    assert staff.post(f"/staff/learners/{user.pk}/repair/", follow=True).status_code == 200


def make_enrolled(system: Any) -> Any:
    """A learner with an LMS account, an enrollment and a token."""
    user = system.learner()
    enroll(user, ensure_run(DEMO), reconcile_now=True)
    access_token_for(user)
    return user


def test_the_page_names_a_missing_link_and_a_link_to_another_account(
    system_with_batch_api: Any, staff: Client
) -> None:
    user, other = (
        make_enrolled(system_with_batch_api),
        make_enrolled(system_with_batch_api),
    )
    linked = Page(staff, user)
    assert (linked.problem, linked.differing, linked.headline.state) == ("", [], "ok")
    assert linked.comparisons["Sign-in"].differs is False

    system_with_batch_api.lms.shell(UNLINK.format(name=user.username))
    unlinked = Page(staff, user)
    assert unlinked.differing == ["Sign-in"]
    assert unlinked.headline.state == "bad"
    assert f"does not let the learner in to the account {user.username}" in unlinked.headline.text
    assert "Repair now" in unlinked.headline.advice
    command = f"./manage.py lms usher_link --username {user.username} --application "
    assert unlinked.command.startswith(command)
    assert unlinked.command in unlinked.text
    assert "Differs in the LMS" in unlinked.text

    system_with_batch_api.lms.shell(LINK_TO_OTHER.format(name=other.username, other=user.username))
    linked_to_other = Page(staff, other)
    assert linked_to_other.headline.state == "bad"
    assert linked_to_other.headline.text == (
        f"The learner signs in to another account of the LMS: {user.username}."
    )
    assert " --move " in linked_to_other.command
    used_by_other = Page(staff, user)
    assert used_by_other.headline.state == "bad"
    assert used_by_other.headline.text == (
        f"Somebody else signs in to this learner's LMS account: {other.username}."
    )


def test_the_page_calls_a_renamed_account_renamed(
    system_with_batch_api: Any, staff: Client
) -> None:
    user = make_enrolled(system_with_batch_api)
    system_with_batch_api.lms.shell(RENAME.format(name=user.username, other=f"{user.username}_new"))
    page = Page(staff, user)
    assert page.headline.state == "bad"
    assert page.headline.text == f"The LMS account was renamed to {user.username}_new."
    assert "Change the username back" in page.comparisons["Sign-in"].advice
    assert page.command == ""


def test_a_renamed_account_is_refused_until_it_has_its_name_again(
    system_with_batch_api: Any,
) -> None:
    user = make_enrolled(system_with_batch_api)
    name, row = user.username, LmsAccount.objects.filter(user=user)
    system_with_batch_api.lms.shell(RENAME.format(name=name, other=f"{name}_new"))
    row.compare_again()
    reconcile(user=user, kinds=["account"])
    assert row.get().error_code == "linked-elsewhere"
    assert f"signs in to the LMS account {name}_new" in row.get().error_message
    system_with_batch_api.lms.shell(RENAME.format(name=f"{name}_new", other=name))
    row.make_due()
    reconcile(user=user, kinds=["account"])
    assert row.get().is_settled


def test_invalid_tokens_are_found_and_renewed(system: Any, staff: Client) -> None:
    """This LMS has no ``usher.lms``, so the comparison doesn't show which account the learner signs
    in to. Tokens are compared and renewed as usual."""
    user = make_enrolled(system)
    page = Page(staff, user)
    assert (page.problem, page.differing) == ("", [])
    assert page.comparisons["Sign-in"].differs is None
    assert page.comparisons["Token"].in_lms == f"valid, of {user.username}"

    row = LmsToken.objects.filter(user=user)
    for invalidate, reason in (
        (lambda: system.lms.shell(REVOKE.format(name=user.username)), "the LMS refuses it"),
        (
            lambda: row.update(access_token="of a lost key"),
            "no key of this application decrypts it",
        ),
        (lambda: row.update(expires_at="2020-01-01T00:00:00Z"), "expired "),
    ):
        invalidate()
        page = Page(staff, user)
        assert page.differing == ["Token"]
        assert page.comparisons["Token"].in_lms.startswith(reason)
        assert page.headline.state == "warning"
        repair(staff, user)
        assert Page(staff, user).differing == []
        assert client().me(access_token_for(user)) == user.username


def test_a_token_of_another_account_is_found_and_replaced(system: Any, staff: Client) -> None:
    user, other = make_enrolled(system), make_enrolled(system)
    token_of_other = LmsToken.objects.get(user=other)
    LmsToken.objects.filter(user=user).update(access_token=token_of_other.access_token)
    page = Page(staff, user)
    assert page.comparisons["Token"].in_lms == f"of {other.username}"
    repair(staff, user)
    assert Page(staff, user).comparisons["Token"].in_lms == f"valid, of {user.username}"


def test_dates_of_a_run_are_compared_and_synchronised(system: Any, staff: Client) -> None:
    user = make_enrolled(system)
    run = ensure_run(DEMO)
    sync_runs([DEMO])
    outdated_end = timezone.now() - timedelta(days=20)
    CourseRun.objects.filter(pk=run.pk).update(end=outdated_end, digest="")
    page = Page(staff, user)
    assert page.differing == ["End of Demonstration Course"]
    assert "Synchronise now" in page.headline.advice
    answer = staff.post(f"/staff/runs/{run.pk}/synchronise/", follow=True)
    assert "Synchronised" in answer.content.decode()
    assert Page(staff, user).differing == []
    assert AuditEvent.objects.get(name="console-synchronise").subject == DEMO


def test_older_enrollments_than_those_on_the_page_are_not_reported_as_differences(
    system: Any, staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usher.console.learners.comparing.MAX_ENROLLMENTS", 1)
    user = system.learner()
    older_run, newer_run = (ensure_run(key) for key in (DEMO, E2E))
    for run in (older_run, newer_run):
        enroll(user, run, reconcile_now=True)
    page = Page(staff, user)
    assert page.differing == []
    assert str(newer_run) in page.comparisons
    assert str(older_run) not in page.comparisons


def test_the_headline_warns_of_a_missing_run_and_a_deactivated_user(
    system: Any, staff: Client
) -> None:
    user = make_enrolled(system)
    CourseRun.objects.filter(course_key=DEMO).update(missing_since=timezone.now())
    page = staff.get(f"/staff/learners/{user.pk}/")
    assert page.context["headline"].state == "warning"
    assert "does not show" in page.context["headline"].text
    user.is_active = False
    user.save()
    page = staff.get(f"/staff/learners/{user.pk}/")
    assert page.context["headline"].text == "The user is deactivated in this application."


def compare_learner(*arguments: str, code: int) -> str:
    """Runs ``compare_learner`` and returns its output. Checks the exit code, and that text lines
    have at most 80 columns. Lines that begin with ``$`` are commands and may be longer."""
    out = StringIO()
    exit_code = 0
    try:
        call_command("compare_learner", *arguments, stdout=out)
    except SystemExit as error:
        exit_code = int(error.code or 0)
    assert exit_code == code, out.getvalue()
    if "--json" not in arguments:
        lines = [line for line in out.getvalue().splitlines() if not line.startswith("$ ")]
        assert max(map(len, lines)) <= 80
    return out.getvalue()


def test_compare_learner_prints_differences_and_their_repair(system_with_batch_api: Any) -> None:
    user, other = make_enrolled(system_with_batch_api), make_enrolled(system_with_batch_api)
    name = user.username
    in_sync = compare_learner(user.email, code=0)
    assert in_sync.startswith("✓ All of this learner's records in the LMS have the desired state.")
    assert f"✓ Sign-in        into {name}" in in_sync

    system_with_batch_api.lms.shell(REVOKE.format(name=name))
    revoked = compare_learner(name, code=1)
    assert f"✗ Token          the LMS refuses it; desired: valid, of {name}" in revoked
    assert f"$ python manage.py compare_learner {name} --repair" in revoked.splitlines()
    assert "✓ Token " in compare_learner(name, "--repair", code=0)

    system_with_batch_api.lms.shell(LINK_TO_OTHER.format(name=other.username, other=user.username))
    linked_to_other = compare_learner(other.username, code=1)
    assert f"✗ The learner signs in to another account of the LMS: {name}." in linked_to_other
    assert f"usher_link --move --username {other.username} --application" in linked_to_other
    assert "are the same person. The command ends all other access" in " ".join(
        linked_to_other.split()
    )
    # This learner's own records do not differ, but another learner is linked to the account.
    assert compare_learner(name, code=1).startswith("✗ Somebody else signs in")


def test_the_advice_for_a_run_that_the_lms_never_had_is_that_of_doctor(system: Any) -> None:
    """It needs no page of the console, and does not say to restore the run."""
    user = system.learner()
    run = CourseRun.objects.create(
        course_key="course-v1:edX+DemoX+Demo_Corse", missing_since=timezone.now()
    )
    enroll(user, run, reconcile_now=True)
    printed = " ".join(compare_learner(user.username, code=1).split())
    assert "Publish the run in the LMS; the enrollment is then sent again." in printed
    assert "`usher why LEARNER` shows the command" in printed or "$ usher why LEARNER" in printed
    assert "Repair now" not in printed
    assert "restore" not in printed.lower()


def test_compare_learner_names_existing_accounts_that_may_be_the_learner_s(system: Any) -> None:
    user = system.learner()
    system.lms.shell(
        "from django.contrib.auth import get_user_model as g; "
        f"g().objects.create_user('earlier', {user.email!r})"
    )
    printed = " ".join(compare_learner(user.email, code=1).split())
    assert "The LMS has the account earlier, which may be this learner's." in printed
    data = json.loads(compare_learner(user.email, "--json", code=1))
    assert data["candidates"] == ["earlier"]
    assert data["differences"] == 0


def test_compare_learner_fails_if_the_lms_does_not_answer(system: Any, settings: Any) -> None:
    user = make_enrolled(system)
    settings.OPENEDX_API_BASE_URL = UNREACHABLE_URL
    with pytest.raises(CommandError, match="could not be read"):
        call_command("compare_learner", user.username, stdout=StringIO())
