"""The form of the sign-in page. It isn't in ``accounts.forms``, which allauth's forms import."""

from typing import Any

from allauth.account.forms import LoginForm


class SignInForm(LoginForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"].label = "Username or email"

    def full_clean(self) -> None:
        """Also mark both fields as invalid after a wrong password. Screen readers then read the
        error."""
        super().full_clean()
        if self.is_bound and self.non_field_errors():
            for name in ("login", "password"):
                attributes = {"aria-invalid": "true", "aria-describedby": "form-errors"}
                self.fields[name].widget.attrs.update(attributes)
