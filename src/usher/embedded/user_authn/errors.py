"""Errors of registration, each with the status of its answer."""

from typing import Any


class RegistrationRefused(Exception):
    """``fields`` maps field names to messages (or ``username_suggestions`` to names)."""

    def __init__(self, status: int, code: str, fields: dict[str, Any]) -> None:
        super().__init__(code)
        self.status, self.code, self.fields = status, code, fields

    def body(self) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        for name, messages in self.fields.items():
            if name == "username_suggestions":
                answer[name] = messages
            else:
                answer[name] = [{"user_message": message} for message in messages]
        return {**answer, "error_code": self.code}
