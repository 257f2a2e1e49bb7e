from django.contrib import admin

from usher.embedded.certificates.models import GeneratedCertificate


@admin.register(GeneratedCertificate)
class GeneratedCertificateAdmin(admin.ModelAdmin):
    list_display = ("id", "course_id", "mode", "user", "status")
    search_fields = ("course_id", "user__username")
    raw_id_fields = ("user",)
