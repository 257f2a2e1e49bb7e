"""While ``USHER_ADAPTER`` fails, the endpoints that the LMS calls answer 503, so that the LMS tries
again."""

from typing import Any

import pytest

from usher.application.adapter import DefaultAdapter

SCOPE = "user:read openid"


class Failing(DefaultAdapter):
    """An adapter with one method that fails. ``broken`` names that method."""

    broken = ""

    def is_eligible(self, user: Any) -> bool:
        return bool(self._answer("is_eligible", super().is_eligible(user)))

    def email(self, user: Any) -> str:
        return str(self._answer("email", super().email(user)))

    def _answer(self, method: str, answer: Any) -> Any:
        if self.broken == method:
            raise KeyError("no such field")
        return answer


@pytest.fixture
def broken(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    settings.USHER_ADAPTER = f"{__name__}.Failing"
    return lambda method: monkeypatch.setattr(Failing, "broken", method)


def assert_unavailable(answer: Any) -> None:
    assert answer.status_code == 503
    assert answer.json()["error"] == "temporarily_unavailable"
    assert "KeyError" not in answer.content.decode()
    assert answer["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["is_eligible", "email"])
def test_users_me_and_userinfo(lms: Any, broken: Any, method: str) -> None:
    token = lms.exchange(scope=SCOPE)["access_token"]
    broken(method)
    bearer = {"Authorization": f"Bearer {token}"}
    for path in ("/api/users/me", "/oauth2/userinfo/"):
        assert_unavailable(lms.server.get(path, headers=bearer))
    broken("")
    assert lms.me(token).status_code == 200


def test_the_token_endpoint_spends_neither_code_nor_refresh_token(lms: Any, broken: Any) -> None:
    """The token endpoint needs the e-mail address for the ID token, and the adapter fails to return
    the address."""
    refresh_token = lms.exchange(scope=SCOPE)["refresh_token"]
    code = lms.code(scope=SCOPE)
    broken("email")
    assert_unavailable(lms.token(code=code))
    assert_unavailable(lms.refresh(refresh_token))
    broken("")
    assert lms.token(code=code).status_code == 200
    assert lms.refresh(refresh_token).status_code == 200
