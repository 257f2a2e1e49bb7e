"""``manage.py check`` names methods of the adapter that Usher can't call, or does not know."""

from typing import Any

import pytest

from usher.application.adapter import DefaultAdapter
from usher.application.checks import settings as checks


def messages_of(settings: Any, **members: Any) -> list[str]:
    """The messages of ``manage.py check`` about an adapter, Shop, with these members."""
    # USHER_ADAPTER names a class by its module, so the class must be in this module.
    globals()["Shop"] = type("Shop", (DefaultAdapter,), members)
    settings.USHER_ADAPTER = f"{__name__}.Shop"
    return [
        f"{message.id} {message.msg} {message.hint or ''}".strip()
        for message in checks.messages()
        if "USHER_ADAPTER" in message.msg
    ]


async def asynchronous(self: Any, user: Any) -> str:
    return ""


@pytest.mark.parametrize(
    ("name", "member", "words"),
    [
        ("lms_username", lambda self: "", "takes (self): write def lms_username(self, user)."),
        (
            "allowed_modes",
            lambda self, user: [],
            "takes (self, user): write def allowed_modes(self, user, run).",
        ),
        ("eligible", staticmethod(lambda: []), "takes (): write def eligible(self, users)."),
        ("country", "CH", "is 'CH', not a method: write def country(self, user)."),
        ("email", asynchronous, "is asynchronous, and Usher does not await it: write def"),
    ],
)
def test_a_method_that_usher_cannot_call_is_named_with_its_correct_signature(
    settings: Any, name: str, member: Any, words: str
) -> None:
    (message,) = messages_of(settings, **{name: member})
    assert message.startswith(f"usher.E022 USHER_ADAPTER: {name} of Shop {words}")


@pytest.mark.parametrize(
    ("name", "correct_name"),
    [
        ("is_eligable", "is_eligible"),
        ("username", "lms_username"),
        ("get_lms_username", "lms_username"),
        ("fullname", "full_name"),
        ("allowed_mode", "allowed_modes"),
    ],
)
def test_a_mistyped_name_of_a_method_is_named_with_the_correct_name(
    settings: Any, name: str, correct_name: str
) -> None:
    (message,) = messages_of(settings, **{name: lambda self, user: ""})
    assert message.startswith(f"usher.W029 USHER_ADAPTER: Usher does not call the method {name} of")
    assert f"Did you mean {correct_name}?" in message


def test_a_correct_adapter_causes_no_message(settings: Any) -> None:
    def helper(self: Any) -> None: ...

    members = {
        "is_eligible": lambda self, user, *more: True,
        "country": staticmethod(lambda user: "CH"),
        "email": classmethod(lambda cls, user: user.email),
        "helper": helper,
        "_is_eligable": helper,  # private names are not examined
    }
    assert messages_of(settings, **members) == []


class WithArgument(DefaultAdapter):
    def __init__(self, shop: str) -> None: ...


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (f"{__name__}.WithArgument", "calling it without arguments fails: TypeError"),
        ("tests.application.decisions.broken.Adapter", "imported: ZeroDivisionError: division"),
        ("no.such.Adapter", "imported: ModuleNotFoundError: No module named 'no'"),
    ],
)
def test_a_class_that_cannot_be_imported_or_created_is_named(
    settings: Any, path: str, words: str
) -> None:
    settings.USHER_ADAPTER = path
    (error,) = [message for message in checks.messages() if message.id == "usher.E011"]
    assert words in error.msg
