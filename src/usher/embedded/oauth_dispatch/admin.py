from django.contrib import admin

from usher.embedded.oauth_dispatch.models import ApplicationAccess, RestrictedApplication

admin.site.register(ApplicationAccess)
admin.site.register(RestrictedApplication)
