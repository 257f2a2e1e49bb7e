from django.urls import path

from usher.application.webhooks.views import lms_webhook
from usher.contract.paths import ApplicationPath

urlpatterns = [path(ApplicationPath.WEBHOOKS.lstrip("/"), lms_webhook, name="usher-lms-webhook")]
