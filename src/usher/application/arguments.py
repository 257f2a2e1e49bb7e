"""Checks the arguments of functions that other code calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model

from usher.application.runs.models import CourseRun


def require_user(user: Any) -> None:
    """Raises TypeError if ``user`` is something else, such as an e-mail address, and ValueError if
    the user is not saved."""
    model = get_user_model()
    if not isinstance(user, model._meta.concrete_model or model):
        raise TypeError(
            f"user must be a {model.__name__}, not {_describe(user)}. "
            f"Get one with get_user_model().objects.get({model.get_email_field_name()}=...)."
        )
    if user.pk is None:
        raise ValueError(f"The user {user} is not saved yet. Call user.save() first.")


def require_run(run: Any) -> None:
    """Raises TypeError if ``run`` is something else, such as a course key, and ValueError if the
    course run is not saved."""
    if not isinstance(run, CourseRun):
        raise TypeError(
            f"run must be a CourseRun, not {_describe(run)}. "
            "Get one with CourseRun.objects.get(course_key=...)."
        )
    if run.pk is None:
        raise ValueError(
            f"The course run {run.course_key} is not saved yet. ensure_run(course_key) saves it."
        )


def require_mode(mode: Any) -> None:
    """Raises TypeError if ``mode`` is not a str, for example a CourseMode."""
    if not isinstance(mode, str):
        raise TypeError(f"mode must be a str such as 'verified', not {_describe(mode)}.")


def require_course_key(key: Any) -> None:
    """Raises TypeError if ``key`` is not a str, for example a CourseRun."""
    if not isinstance(key, str):
        raise TypeError(
            f"a course key must be a str like 'course-v1:ORG+NUMBER+RUN', not {_describe(key)}. "
            "The key of a run is run.course_key."
        )


def require_course_keys(keys: Iterable[Any]) -> list[str]:
    """The keys as a list. Raises TypeError for one key in place of several, and for a key that is
    not a str."""
    if isinstance(keys, str | CourseRun):
        raise TypeError(f"keys must be a list of course keys, not {_describe(keys)}. Pass [key].")
    key_list = list(keys)
    for key in key_list:
        require_course_key(key)
    return key_list


def require_username(username: Any) -> None:
    """Raises TypeError if ``username`` is not a str, for example a user."""
    if not isinstance(username, str):
        raise TypeError(
            f"username must be a str, not {_describe(username)}. "
            "Pass the name of the account in the LMS."
        )


def _describe(value: Any) -> str:
    return f"{type(value).__name__}: {value!r}"
