# Read on standard input by the application's `manage.py shell`: prints what it is, as JSON.
# With Usher in it, Usher tells; else the OAuth toolkit's records and the settings do.
import json
import sys


def _plain():
    from django.conf import settings
    from oauth2_provider.models import get_application_model
    from oauth2_provider.settings import oauth2_settings

    def client(row):
        required = oauth2_settings.PKCE_REQUIRED
        return {
            "name": row.name,
            "client_id": row.client_id,
            "redirect_uris": row.redirect_uris.split(),
            "client_type": row.client_type,
            "grant_type": row.authorization_grant_type,
            "skip_authorization": row.skip_authorization,
            "secret_hasher": row.client_secret.split("$")[0] if "$" in row.client_secret else "",
            "pkce_required": required(row.client_id) if callable(required) else bool(required),
        }

    secret = ("SECRET", "TOKEN", "KEY")
    names = [name for name in dir(settings) if name.startswith("OPENEDX_")]
    return {
        "version": 1,
        "site_base_url": str(getattr(settings, "SITE_BASE_URL", "")),
        "settings": {
            name: str(getattr(settings, name))
            for name in [*names, "LOGOUT_REDIRECT_URL"]
            if not any(part in name for part in secret) and getattr(settings, name, None)
        },
        "clients": [client(row) for row in get_application_model().objects.all()],
        "scopes": list(oauth2_settings.SCOPES),
    }


def _report():
    from django.apps import apps

    if apps.is_installed("usher.application"):
        from usher.application.health.facts import report

        return report()
    return _plain()


sys.stdout.write(json.dumps(_report(), default=str))
