"""Provider records: every save is a new version."""

from typing import Any

from config_models.admin import KeyedConfigurationModelAdmin
from django import forms
from django.contrib import admin

from usher.embedded.third_party_auth.models import OAuth2ProviderConfig, oauth_backend_names


class OAuth2ProviderConfigForm(forms.ModelForm):
    """The secret is never sent to a browser. If the field is left empty, the secret of the newest
    version is kept."""

    secret = forms.CharField(
        required=False,
        widget=forms.PasswordInput(render_value=False),
        help_text="Leave this field empty to keep the stored secret.",
    )

    class Meta:
        model = OAuth2ProviderConfig
        fields = "__all__"  # noqa: DJ007 - an operator's page, as the platform's

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = [(name, name) for name in oauth_backend_names()]
        self.fields["backend_name"] = forms.ChoiceField(choices=names)

    def clean_secret(self) -> str:
        secret: str = self.cleaned_data["secret"]
        backend = self.data.get("backend_name", "")
        site = self.data.get("site", "")
        if secret or not site:
            return secret
        newest = (
            OAuth2ProviderConfig.objects.filter(site_id=site, backend_name=backend)
            .order_by("-change_date")
            .first()
        )
        return newest.secret if newest else ""


@admin.register(OAuth2ProviderConfig)
class OAuth2ProviderConfigAdmin(KeyedConfigurationModelAdmin):
    form = OAuth2ProviderConfigForm

    def get_list_display(self, request: Any) -> tuple[str, ...]:
        return (
            "name",
            "enabled",
            "site",
            "backend_name",
            "slug",
            "skip_hinted_login_dialog",
            "skip_registration_form",
            "skip_email_verification",
            "change_date",
            "changed_by",
            "edit_link",
        )
