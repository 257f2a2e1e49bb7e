"""``usher drift`` with stand-ins for MITx Online and MIT xPro, and a real embedded
LMS."""

from typing import Any

import pytest

from tests.sidecar.conftest import System, name_for
from usher.sidecar.learners import error_message_of

#: The mode in which each application enrolls learners by default.
MODE = {"mitxonline": "audit", "mitxpro": "no-id-professional"}


def course_of(system: System) -> str:
    """The key of a course run in the LMS. Makes the LMS offer it in the application's mode."""
    return system.lms.shell(
        "from usher.embedded.course_modes.models import CourseMode\n"
        "course = CourseMode.objects.order_by('pk').first().course_id\n"
        f"CourseMode.objects.get_or_create(course_id=course, mode_slug={mode_of(system)!r},\n"
        "    defaults={'mode_display_name': 'A mode'})\n"
        "print(course)"
    )


def mode_of(system: System) -> str:
    return MODE[system.application.name]


def record_accounts(system: System, *names: str, token: bool = True) -> None:
    """Records in the application that these learners have an LMS account and, if ``token``, a
    token."""
    system.application.run(
        f"names, token = {names!r}, {token!r}\n"
        "from users.models import User\n"
        "from django.apps import apps\n"
        "for user in User.objects.filter(username__in=names):\n"
        "    if apps.is_installed('openedx'):\n"
        "        from openedx.models import OpenEdxApiAuth, OpenEdxUser\n"
        "        OpenEdxUser.objects.create(user=user, edx_username=user.username,\n"
        "            desired_edx_username=user.username, has_been_synced=True)\n"
        "    else:\n"
        "        from courseware.models import CoursewareUser, OpenEdxApiAuth\n"
        "        CoursewareUser.objects.create(user=user)\n"
        "    if token:\n"
        "        OpenEdxApiAuth.objects.create(user=user, refresh_token='r', access_token='a')\n"
        "result = None"
    )


def differences_of(report: Any, mailbox: str) -> set[str]:
    """The report's sentences about records of the learner whose e-mail address begins with
    ``mailbox``: the username, unless a test changed the address."""
    return {
        entry["difference"]
        for entry in report["differences"]
        if entry["what"].startswith(mailbox + "@")
    }


@pytest.fixture(scope="module")
def report(system: System) -> Any:
    """The JSON object of one ``usher drift``, with a learner in every state."""
    course, mode = course_of(system), mode_of(system)

    def names(*words: str) -> list[str]:
        return [name_for(system, word) for word in words]

    # The learners, each named by its state, see ``test_each_state_of_a_learner_is_reported``.
    in_lms = [
        "fine",
        "unrecorded",
        "tokenless",
        "renamed",
        "inenrolled",
        "missing",
        "extra",
        "back",
    ]
    not_in_lms = ["gone", "waiting"]
    system.create_users(*names(*in_lms, *not_in_lms))
    system.create_accounts_in_lms(*names(*in_lms))
    recorded = [word for word in in_lms if word not in ("unrecorded", "tokenless")]
    record_accounts(system, *names(*recorded, "gone"))
    record_accounts(system, *names("tokenless"), token=False)
    system.application.run(
        "from users.models import User\n"
        f"result = User.objects.filter(username={name_for(system, 'renamed')!r}).update("
        "email='renamed-here@example.org')"
    )
    system.create_enrollment(name_for(system, "fine"), course, edx_enrolled=True)
    system.set_enrollment_in_lms(name_for(system, "fine"), course, mode)
    system.create_enrollment(name_for(system, "inenrolled"), course, edx_enrolled=True)
    system.create_enrollment(name_for(system, "missing"), course, edx_enrolled=False)
    system.set_enrollment_in_lms(name_for(system, "extra"), course, mode)
    system.create_enrollment(
        name_for(system, "back"), course, active=False, change_status="refunded"
    )
    system.set_enrollment_in_lms(name_for(system, "back"), course, mode)
    return system.json("drift")


# ``inenrolled`` is enrolled here only; ``back`` got a refund and is still enrolled in the LMS.
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("fine", set()),
        ("unrecorded", {"{} exists in the LMS; not recorded here", "no token of the LMS"}),
        ("tokenless", {"no token of the LMS"}),
        ("gone", {"{} does not exist in the LMS; recorded here as created"}),
        ("waiting", {"no account in the LMS yet"}),
        ("inenrolled", {"not enrolled in the LMS; recorded here"}),
        ("missing", {"not enrolled in the LMS yet"}),
        ("extra", {"enrolled in the LMS; no record here"}),
        ("back", {"enrolled in the LMS; refunded here"}),
    ],
)
def test_each_state_of_a_learner_is_reported(
    report: Any, system: System, word: str, expected: set[str]
) -> None:
    name = name_for(system, word)
    if system.application.name == "mitxonline" and word == "unrecorded":
        expected = {"no account in the LMS yet"}  # the account's username is not chosen yet
    assert differences_of(report, name) == {text.format(name) for text in expected}


def test_another_email_in_the_lms_is_reported(report: Any, system: System) -> None:
    name = name_for(system, "renamed")
    assert differences_of(report, "renamed-here") == {
        f"the LMS has another e-mail for {name}: {name}@example.org"
    }


def test_a_run_with_another_title_is_reported(report: Any, system: System) -> None:
    course = course_of(system)
    (title,) = [
        entry["difference"]
        for entry in report["differences"]
        if entry["kind"] == "run"
        and entry["difference"].startswith("title")
        and entry["what"] == course
    ]
    assert title.startswith("title 'A run' here, ")


def test_a_second_comparison_gives_the_same_report(report: Any, system: System) -> None:
    assert system.json("drift") == report


def test_differences_are_printed_and_end_with_exit_code_1(report: Any, system: System) -> None:
    result = system.usher("drift", "--kind", "account")
    assert result.exit_code == 1
    assert f"{name_for(system, 'waiting')}@example.org: no account in the LMS yet" in " ".join(
        result.output.split()
    )
    assert "`usher reconcile` repairs the" in result.output


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"email": [{"user_message": "It is\ntaken."}, {"user_message": "Ask."}]},
            "It is taken. Ask.",
        ),
        ({"error_code": "duplicate-email"}, "duplicate-email"),
        ("The LMS\nrefuses it.", "The LMS refuses it."),
        ({}, ""),
        (None, ""),
    ],
)
def test_the_reason_of_a_given_up_account_is_one_line(data: Any, message: str) -> None:
    assert error_message_of(data) == message


def test_learners_given_up_by_the_application_are_listed_with_the_reason(
    report: Any, system: System
) -> None:
    name, course = name_for(system, "given"), "course-v1:given+up+run"
    system.create_users(name)
    if system.application.name == "mitxonline":
        system.application.run(
            "from users.models import User\n"
            "from openedx.models import OpenEdxUser\n"
            f"user = User.objects.get(username={name!r})\n"
            "reason = {'email': [{'user_message': 'It looks like this email is taken'}]}\n"
            "OpenEdxUser.objects.create(user=user, edx_username=user.username,\n"
            "    has_sync_error=True, sync_error_data=reason)\n"
            "result = None"
        )
        system.create_enrollment(name, course, edx_enrollment_retry_count=5)
        expected = {
            (
                f"{name}@example.org",
                "the LMS refused the account: It looks like this email is taken",
            ),
            (
                f"{name}@example.org in {course}",
                "not enrolled after 5 attempts; the application does not try again",
            ),
        }
    else:
        system.create_enrollment(name, course)
        expected = {(f"{name}@example.org in {course}", "not enrolled for more than a day")}
    # The refunded learner "back" of ``report`` is not among those given up.
    given_up = system.json("drift", "--given-up")["given_up"]
    listed = {(entry["what"], entry["reason"]) for entry in given_up}
    assert expected <= listed
    assert not [reason for record, reason in listed if record.startswith(name_for(system, "back"))]


def test_an_lms_that_can_not_be_reached_is_an_error_and_no_difference(system: System) -> None:
    result = system.usher("drift", "--lms-url", "http://127.0.0.1:9")
    assert result.exit_code == 2
    assert "The LMS at http://127.0.0.1:9 could not be asked" in result.output
    assert "does not exist" not in result.output  # as drift says of a missing account
