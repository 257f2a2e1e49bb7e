"""Django admin of OAuth2 clients and of the codes and tokens that were issued to them."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from oauth2_provider.admin import (
    AccessTokenAdmin,
    ApplicationAdmin,
    GrantAdmin,
    IDTokenAdmin,
    RefreshTokenAdmin,
)
from oauth2_provider.models import (
    get_access_token_model,
    get_application_model,
    get_grant_model,
    get_id_token_model,
    get_refresh_token_model,
)

from usher.application.provider.models import ClientPolicy, SignOutMessage


class PolicyInline(admin.StackedInline):
    model = ClientPolicy
    can_delete = False


class IssuedAdmin(admin.ModelAdmin):
    """Codes and tokens: staff can see them and, with a separate permission, revoke them."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("usher_provider.revoke_tokens"))


# The toolkit has registered its own pages of these models. The classes below replace them.
for _model in (
    get_application_model(),
    get_access_token_model(),
    get_refresh_token_model(),
    get_grant_model(),
    get_id_token_model(),
):
    admin.site.unregister(_model)


@admin.register(get_access_token_model())
class UsherAccessTokenAdmin(IssuedAdmin, AccessTokenAdmin):
    """With the toolkit's own action, which here needs a permission."""

    @admin.action(description="Revoke selected access tokens", permissions=["revoke"])
    def revoke_tokens(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().revoke_tokens(request, queryset)


@admin.register(get_refresh_token_model())
class UsherRefreshTokenAdmin(IssuedAdmin, RefreshTokenAdmin):
    """With the toolkit's own action, which here needs a permission."""

    @admin.action(description="Revoke selected refresh tokens", permissions=["revoke"])
    def revoke_tokens(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().revoke_tokens(request, queryset)


@admin.register(get_grant_model())
class UsherGrantAdmin(IssuedAdmin, GrantAdmin):
    """Authorization codes, which are valid for a minute."""


@admin.register(get_id_token_model())
class UsherIdTokenAdmin(IssuedAdmin, IDTokenAdmin):
    """ID tokens: who was signed in, and until when."""


@admin.register(get_application_model())
class ClientAdmin(ApplicationAdmin):
    """The OAuth toolkit's page of a client, with the client's policy."""

    inlines = [PolicyInline]
    view_on_site = False


@admin.register(SignOutMessage)
class SignOutMessageAdmin(admin.ModelAdmin):
    list_display = ("subject", "application", "created_at", "attempts", "next_attempt_at")
    readonly_fields = ("last_error",)
    list_select_related = ("application",)
