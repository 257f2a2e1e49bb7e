"""Password validators with the platform's messages."""

from typing import Any

from django.core.exceptions import ValidationError


class MinimumLengthValidator:
    """Refuses shorter passwords, with the platform's message."""

    def __init__(self, min_length: int = 8) -> None:
        self.min_length = min_length

    def validate(self, password: str, user: Any = None) -> None:
        if len(password) < self.min_length:
            raise ValidationError(
                f"This password is too short. It must contain at least {self.min_length} "
                f"character{'' if self.min_length == 1 else 's'}.",
                code="password_too_short",
            )

    def get_help_text(self) -> str:
        return f"Your password must contain at least {self.min_length} characters."


class MaximumLengthValidator:
    """Refuses longer passwords, with the platform's message."""

    def __init__(self, max_length: int = 75) -> None:
        self.max_length = max_length

    def validate(self, password: str, user: Any = None) -> None:
        if len(password) > self.max_length:
            raise ValidationError(
                f"This password is too long. It must contain no more than {self.max_length} "
                f"character{'' if self.max_length == 1 else 's'}.",
                code="password_too_long",
            )

    def get_help_text(self) -> str:
        return f"Your password must contain no more than {self.max_length} characters."
