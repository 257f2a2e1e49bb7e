# The application's `manage.py shell` reads this file on standard input, after a line that defines
# ADDRESS. It requests the authorize page for one of the application's users, rolls everything back,
# and prints JSON.
import json
import sys

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.exceptions import SuspiciousOperation
from django.db import transaction
from django.test import RequestFactory
from django.urls import Resolver404, resolve


def _allowed_host():
    """The first host name in ALLOWED_HOSTS; ``localhost`` if that is a pattern, or without any."""
    if not settings.ALLOWED_HOSTS:
        return "localhost"
    host = settings.ALLOWED_HOSTS[0]
    is_pattern = host.startswith(("*", "."))
    return "localhost" if is_pattern else host


def _answer(address):
    """Calls the view at ``address`` as the oldest active user, and returns its answer. status: None
    without any user."""
    user = get_user_model()._base_manager.filter(is_active=True).order_by("pk").first()
    if user is None:
        return {"status": None, "text": "the application has no users yet"}
    # Over https, so that an application with SECURE_SSL_REDIRECT does not redirect the request.
    request = RequestFactory().get(address, HTTP_HOST=_allowed_host(), secure=True)
    request.user, request.session = user, SessionStore()
    request.resource_owner = user
    try:
        view, args, kwargs = resolve(address.split("?")[0])
        response = view(request, *args, **kwargs)
        if hasattr(response, "render"):
            response.render()
    except SuspiciousOperation as error:  # Django answers 400
        return {"status": 400, "text": str(error)}
    except Resolver404:
        return {"status": 404, "text": "there is no such page"}
    location = response.headers.get("Location", "")
    body = "" if location else response.content.decode(errors="replace")
    return {"status": response.status_code, "text": body[:2000], "location": location}


with transaction.atomic():
    answer = _answer(globals()["ADDRESS"])
    transaction.set_rollback(True)
# The code is not stored, and not shown.
answer["location"] = answer.get("location", "").split("code=")[0]
sys.stdout.write(json.dumps(answer))
