from typing import Any

from django import forms

from accounts.models import User
from usher.contract.limits import FULL_NAME_MAX_LENGTH


class FullNameForm(forms.Form):
    """What sign-up asks beside user name, e-mail address and password."""

    name = forms.CharField(label="Full name", max_length=FULL_NAME_MAX_LENGTH)

    def signup(self, request: Any, user: User) -> None:
        user.name = self.cleaned_data["name"]
        user.save(update_fields=["name"])
