from typing import Any

from django import forms

from accounts.countries import COUNTRIES
from accounts.models import User
from usher.contract.limits import FULL_NAME_MAX_LENGTH, USERNAME_MAX_LENGTH


class FullNameForm(forms.Form):
    """The fields of sign-up besides username, e-mail address and password. allauth derives its form
    from this class and adds those three."""

    name = forms.CharField(
        label="Full name",
        max_length=FULL_NAME_MAX_LENGTH,
        help_text="The name to print on certificates.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )

    field_order = ["name", "username", "email", "password1"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs.pop("placeholder", None)  # it would repeat the visible label
        if "username" in self.fields:
            self.fields["username"].widget.attrs["maxlength"] = USERNAME_MAX_LENGTH
            help_text = (
                "Letters, digits, - and _. Others see it in courses, and it can't be changed."
            )
            self.fields["username"].help_text = help_text

    def signup(self, request: Any, user: User) -> None:
        """Save the full name. allauth calls this for a new user."""
        user.name = self.cleaned_data["name"]
        user.save(update_fields=["name"])


class ProfileForm(forms.ModelForm):
    country = forms.ChoiceField(choices=[("", "Not given"), *COUNTRIES], required=False)
    name = forms.CharField(
        label="Full name",
        max_length=FULL_NAME_MAX_LENGTH,
        help_text="The name to print on certificates.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )

    class Meta:
        model = User
        fields = ["name", "country"]
