from django.contrib import admin
from oauth2_provider.admin import ApplicationAdmin
from oauth2_provider.models import get_application_model

from usher.application.provider.models import ClientPolicy, SignOutMessage


class PolicyInline(admin.StackedInline):
    model = ClientPolicy
    can_delete = False


admin.site.unregister(get_application_model())


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
