"""The error for a wrong argument names the argument and says what to pass instead."""

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.utils.functional import SimpleLazyObject

from tests.application.conftest import make_learner
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.services import (
    ModeNotAllowed,
    change_mode,
    enroll,
    unenroll,
)
from usher.application.models import CourseRun
from usher.application.runs.services import sync_runs
from usher.testing.fake import UsherFakeLms

KEY = "course-v1:edX+DemoX+Demo_Course"


def change_to_verified(user: Any, run: Any) -> None:
    change_mode(user, run, "verified")


@pytest.mark.parametrize("call", [enroll, unenroll, change_to_verified])
def test_a_course_key_is_rejected_in_place_of_the_run(db: None, call: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"CourseRun\.objects\.get\(course_key=\.\.\.\)") as error:
        call(make_learner(), KEY)
    assert KEY in str(error.value)


@pytest.mark.parametrize("call", [enroll, unenroll, change_to_verified])
def test_an_email_address_is_rejected_in_place_of_the_user(
    db: None, call: Callable[..., Any]
) -> None:
    run = CourseRun.objects.create(course_key=KEY)
    with pytest.raises(TypeError, match=r"user must be a User, not str: 'ann@example\.org'"):
        call("ann@example.org", run)


def test_the_fake_lms_rejects_a_run_in_place_of_its_key() -> None:
    with pytest.raises(TypeError, match=r"run\.course_key"):
        UsherFakeLms().refuse(CourseRun(course_key=KEY))  # type: ignore[arg-type]


#: Modules with functions that a project may call.
MODULES = (
    "usher.application.accounts.adoption",
    "usher.application.accounts.repair",
    "usher.application.accounts.services",
    "usher.application.enrollments.modes",
    "usher.application.enrollments.services",
    "usher.application.explain",
    "usher.application.runs.services",
    "usher.application.tokens.services",
)
#: Argument → a value of a wrong type, and a regular expression for the error message.
WRONG_VALUES = {
    "user": ("ann@example.org", r"get_user_model\(\)\.objects\.get\(email=\.\.\.\)"),
    "run": (KEY, r"CourseRun\.objects\.get\(course_key=\.\.\.\)"),
    "row": (7, r"Enrollment\.objects\.get"),
    "username": (7, "username must be a str"),
    "course_key": (7, "course key must be a str"),
    "keys": (KEY, r"Pass \[key\]"),  # a text in place of a list
}
#: Functions whose arguments always come from another function.
INTERNAL_FUNCTIONS = {"from_adapter", "confirmed_address"}


def functions_and_arguments() -> Iterator[Any]:
    """A parameter set for each argument in ``WRONG_VALUES`` of each function in ``MODULES``."""
    for name in MODULES:
        module = import_module(name)
        for function in vars(module).values():
            if not inspect.isfunction(function) or function.__module__ != name:
                continue
            if function.__name__.startswith("_") or function.__name__ in INTERNAL_FUNCTIONS:
                continue
            for argument in set(WRONG_VALUES) & set(inspect.signature(function).parameters):
                yield pytest.param(
                    function, argument, id=f"{name.split('.')[-2]}-{function.__name__}-{argument}"
                )


@pytest.mark.parametrize(("function", "argument"), [*functions_and_arguments()])
def test_every_function_checks_its_arguments(
    db: None, function: Callable[..., Any], argument: str
) -> None:
    make_valid_value = {
        "user": make_learner,
        "run": lambda: CourseRun.objects.create(course_key=KEY),
        "username": lambda: "ann",
        "mode": lambda: "audit",
        "active": lambda: False,
    }
    wrong_value, message = WRONG_VALUES[argument]
    valid_arguments = {
        name: make_valid_value[name]()
        for name in inspect.signature(function).parameters
        if name in make_valid_value and name != argument
    }
    with pytest.raises(TypeError, match=message):
        function(**valid_arguments | {argument: wrong_value})


@pytest.mark.parametrize("call", [enroll, unenroll, change_to_verified])
def test_an_unsaved_user_or_run_is_rejected(db: None, call: Callable[..., Any]) -> None:
    user, run = make_learner(), CourseRun.objects.create(course_key=KEY)
    with pytest.raises(ValueError, match=r"The user ann is not saved yet\. Call user\.save\(\)"):
        call(get_user_model()(username="ann"), run)
    with pytest.raises(ValueError, match=rf"{re.escape(KEY)} is not saved yet"):
        call(user, CourseRun(course_key=KEY))


@pytest.mark.parametrize("call", [enroll, change_mode])
def test_a_mode_that_is_no_string_is_rejected(db: None, call: Callable[..., Any]) -> None:
    user, run = make_learner(), CourseRun.objects.create(course_key=KEY)
    with pytest.raises(TypeError, match="mode must be a str such as 'verified', not NoneType"):
        call(user, run, None)


def test_change_mode_rejects_an_empty_mode(db: None) -> None:
    user, run = make_learner(), CourseRun.objects.create(course_key=KEY)
    enroll(user, run)
    with pytest.raises(ModeNotAllowed, match="mode is empty"):
        change_mode(user, run, "")


def test_sync_runs_rejects_a_run_in_place_of_its_key(db: None) -> None:
    run = CourseRun(course_key=KEY)
    with pytest.raises(TypeError, match=r"run\.course_key"):
        sync_runs([run])  # type: ignore[list-item]


def test_ensure_account_accepts_the_lazy_user_of_a_request(db: None) -> None:
    user = make_learner()
    assert ensure_account(SimpleLazyObject(lambda: user)).user == user
