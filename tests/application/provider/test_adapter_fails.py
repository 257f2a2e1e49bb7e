"""While ``USHER_ADAPTER`` fails, the endpoints that the LMS calls answer 503, so that the LMS tries
again."""

from typing import Any

import pytest

from usher.application.adapter import DefaultAdapter

SCOPE = "user:read openid"


class Failing(DefaultAdapter):
    """An adapter whose method ``failing_method`` raises an exception."""

    failing_method: str | None = None

    def is_eligible(self, user: Any) -> bool:
        self._raise_if_failing("is_eligible")
        return super().is_eligible(user)

    def email(self, user: Any) -> str:
        self._raise_if_failing("email")
        return super().email(user)

    def _raise_if_failing(self, method: str) -> None:
        if self.failing_method == method:
            raise KeyError("no such field")


@pytest.fixture
def make_fail(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes one method of the adapter fail. With None, no method fails."""
    settings.USHER_ADAPTER = f"{__name__}.Failing"
    return lambda method: monkeypatch.setattr(Failing, "failing_method", method)


def assert_unavailable(answer: Any) -> None:
    assert answer.status_code == 503
    assert answer.json()["error"] == "temporarily_unavailable"
    assert "KeyError" not in answer.content.decode()
    assert answer["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["is_eligible", "email"])
def test_users_me_and_userinfo_answer_503_while_the_adapter_fails(
    lms: Any, make_fail: Any, method: str
) -> None:
    token = lms.exchange(scope=SCOPE)["access_token"]
    make_fail(method)
    bearer = {"Authorization": f"Bearer {token}"}
    for path in ("/api/users/me", "/oauth2/userinfo/"):
        assert_unavailable(lms.server.get(path, headers=bearer))
    make_fail(None)
    assert lms.me(token).status_code == 200


def test_a_code_and_a_refresh_token_stay_valid_after_the_token_endpoint_answered_503(
    lms: Any, make_fail: Any
) -> None:
    """The token endpoint needs the learner's e-mail address for the ID token."""
    refresh_token = lms.exchange(scope=SCOPE)["refresh_token"]
    code = lms.code(scope=SCOPE)
    make_fail("email")
    assert_unavailable(lms.token(code=code))
    assert_unavailable(lms.refresh(refresh_token))
    make_fail(None)
    assert lms.token(code=code).status_code == 200
    assert lms.refresh(refresh_token).status_code == 200
