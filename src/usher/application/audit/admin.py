from django.contrib import admin
from django.http import HttpRequest

from usher.application.audit.models import AuditEvent


@admin.register(AuditEvent)
class AuditEventAdmin(admin.ModelAdmin):
    """Read-only, with search."""

    list_display = ("at", "event", "succeeded", "subject", "actor", "address")
    list_filter = ("name", "succeeded")
    search_fields = ("subject", "actor__username")
    date_hierarchy = "at"
    list_select_related = ("actor",)
    show_full_result_count = False

    @admin.display(ordering="name")
    def event(self, row: AuditEvent) -> str:
        return row.sentence

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditEvent | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditEvent | None = None) -> bool:
        return False
