# mypy: ignore-errors
"""Runs inside the application: examines it, creates or removes the OAuth2 record of the LMS.

The script is passed on standard input of ``manage.py shell`` after a definition of PARAMS (a dict),
so that no secret is an argument. The script prints its result as one line of JSON after
``ANSWER_MARK``, because the shell prints other lines as well. The script needs only Django, the
OAuth toolkit 1.7 or newer, and Python 3.8 or newer.
"""

import json

ANSWER_MARK = "usher-answer: "
#: The management commands whose presence is reported.
COMMANDS = (
    "sync_courserun",
    "sync_courseruns",
    "repair_missing_courseware_records",
    "reconcile",
)
#: The fields of the OAuth2 record that connect saves, and that disconnect restores.
FIELDS = (
    "client_id",
    "client_secret",
    "client_type",
    "authorization_grant_type",
    "skip_authorization",
    "redirect_uris",
)


def inspect(params):
    """Returns facts about this application, and whether its record is as ``params`` requires."""
    import django
    from django.apps import apps
    from django.conf import settings
    from django.core.management import get_commands

    if not apps.is_installed("oauth2_provider"):
        return {"error": "oauth2_provider (django-oauth-toolkit) is not in INSTALLED_APPS"}
    from oauth2_provider.scopes import get_scopes_backend

    commands = get_commands()
    record = _record(params)
    return {
        "django": django.get_version(),
        "toolkit": _toolkit_version(),
        "usher": apps.is_installed("usher.application"),
        "site": getattr(settings, "SITE_BASE_URL", "") or "",
        "oauth_name": _application_name(params),
        "scopes": sorted(get_scopes_backend().get_all_scopes()),
        "pkce_required": _pkce_required(record, params),
        "commands": [name for name in COMMANDS if name in commands],
        "paths": _paths(),
        "settings": {key: getattr(settings, key, None) for key in params["settings"]},
        "readable": [key for key in params.get("readable", ()) if hasattr(settings, key)],
        "superuser": _superuser(),
        "session_cookie": settings.SESSION_COOKIE_NAME,
        "gateway": _signs_in_at_gateway(),
        "record": None if record is None else {key: getattr(record, key) for key in FIELDS},
        "agrees": record is not None and not _differences(record, params),
    }


def check(params):
    """Returns the result of ``inspect`` with two more keys: "accepts" (whether the redirect URI is
    accepted) and "lms_status" (the result of ``_status_of``)."""
    return {
        **inspect(params),
        "accepts": _accepts(params),
        "lms_status": _status_of(params["lms_heartbeat"]),
    }


def _status_of(url):
    """Returns the HTTP status of the LMS's answer to this server, or the error as text."""
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=10) as answer:  # noqa: S310 - the operator's own LMS
            return answer.status
    except HTTPError as error:
        return error.code
    except (URLError, OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def _accepts(params):
    """Whether the provider's validator accepts this redirect URI of this client.

    python-social-auth adds ``redirect_state`` to the registered address. The toolkit accepts that
    up to version 3.3; from 3.4 on only if the application overrides its validator.
    """
    from types import SimpleNamespace

    from oauth2_provider.settings import oauth2_settings

    record = _record(params)
    if record is None or record.client_id != params["client_id"]:
        return False
    request = SimpleNamespace(client=record)
    validator = oauth2_settings.OAUTH2_VALIDATOR_CLASS()
    return bool(validator.validate_redirect_uri(record.client_id, params["redirect_uri"], request))


def write(params):
    """Creates the LMS's OAuth2 record, or updates the fields that differ from ``params``.

    Returns "created" (whether it is new), "changed" (names of fields) and "relaxed" (the result of
    ``_relax_pkce``).
    """
    from oauth2_provider.models import get_application_model

    record = _record(params)
    created = record is None
    if created:
        record = get_application_model()(name=_application_name(params))
    changes = _differences(record, params)
    for key, value in changes.items():
        setattr(record, key, value)
    if changes:
        record.save()
    relaxed = _relax_pkce(record)
    return {"created": created, "changed": sorted(changes), "relaxed": relaxed}


def remove(params):
    """Deletes the LMS's OAuth2 record, or restores the fields in ``params["before"]``.

    Returns "removed" (whether there was a record) or "restored" (how many records).
    """
    from oauth2_provider.models import get_application_model

    records = get_application_model().objects.filter(client_id=params["client_id"])
    if params.get("before"):
        # update() writes the saved hash unchanged; save() would hash it again.
        return {"restored": records.update(**params["before"])}
    return {"removed": records.delete()[0] > 0}


def _record(params):
    """Returns the LMS's OAuth2 record: with the LMS's client id, else the oldest with the name;
    None if there is none."""
    from oauth2_provider.models import get_application_model

    records = get_application_model().objects
    return (
        records.filter(client_id=params["client_id"]).first()
        or records.filter(name=_application_name(params)).order_by("pk").first()
    )


def _application_name(params):
    """Returns the name of the LMS's OAuth2 record in this application."""
    from django.conf import settings

    return getattr(settings, "OPENEDX_OAUTH_APP_NAME", "") or params["name"]


def _differences(record, params):
    """Returns the fields of ``record`` to change, and their new values. Redirect URIs that the
    record has already are kept."""
    present_uris = (record.redirect_uris or "").split()
    new_uris = [uri for uri in params["redirect_uris"] if uri not in present_uris]
    redirect_uris = "\n".join(present_uris + new_uris)
    if present_uris and not new_uris:
        # Other white space between the same redirect URIs is no difference.
        redirect_uris = record.redirect_uris
    expected = {
        "name": record.name or _application_name(params),
        "client_id": params["client_id"],
        "client_type": "confidential",
        "authorization_grant_type": "authorization-code",
        "skip_authorization": True,
        "redirect_uris": redirect_uris,
    }
    changes = {key: value for key, value in expected.items() if getattr(record, key) != value}
    if params.get("client_secret") and not _is_secret(record, params["client_secret"]):
        changes["client_secret"] = params["client_secret"]
    return changes


def _is_secret(record, secret):
    """Whether the record has this secret, which the toolkit stores hashed or in plain text."""
    from django.contrib.auth.hashers import check_password, identify_hasher

    try:
        identify_hasher(record.client_secret)
    except ValueError:  # not hashed
        return record.client_secret == secret
    return check_password(secret, record.client_secret)


def _pkce_required(record, params):
    """Whether the provider's validator, which may decide by client, requires PKCE of the LMS. False
    if ``_relax_pkce`` can exempt the LMS."""
    from types import SimpleNamespace

    from oauth2_provider.settings import oauth2_settings

    if record is None and _has_client_policy():
        return False  # ``write`` will create the record with a policy that exempts it
    validator = oauth2_settings.OAUTH2_VALIDATOR_CLASS()
    client_id = record.client_id if record else params["client_id"]
    request = SimpleNamespace(client=record)
    return bool(validator.is_pkce_required(client_id, request)) and not _has_client_policy()


def _has_client_policy():
    """Whether this is Usher's provider, in which a policy for each client says whether the client
    must use PKCE."""
    from django.apps import apps

    return apps.is_installed("usher.application.provider")


def _relax_pkce(record):
    """Exempts the LMS, whose backends send no PKCE, from it, if this is Usher's provider. Returns
    whether the LMS is exempted."""
    if not _has_client_policy():
        return False
    from django.apps import apps

    policies = apps.get_model("usher_provider", "ClientPolicy").objects
    policies.update_or_create(application=record, defaults={"pkce_required": False})
    return True


def _signs_in_at_gateway():
    """Whether people sign in at an API gateway in front of this application, as at MITx Online.

    The application's own sign-in page then only redirects back.
    """
    from django.conf import settings

    switched_off = getattr(settings, "MITOL_APIGATEWAY_DISABLE_MIDDLEWARE", False)
    return settings.LOGIN_URL == "gateway-login" and not switched_off


def _load_django():
    """Sets Django up, if it isn't yet. Raises an error of the settings, which ``manage.py shell``
    hides when it starts."""
    import django
    from django.apps import apps
    from django.conf import settings

    settings.INSTALLED_APPS  # noqa: B018 - reading it imports the settings
    if not apps.ready:
        django.setup()


def reserve_superuser(params):
    """Reserves the superuser's username in the LMS, so that no learner can get it. Returns
    "superuser" (the result of ``_superuser``)."""
    from usher.application.accounts.services import ensure_account

    ensure_account(_superuser_record())
    return {"superuser": _superuser()}


def _superuser_record():
    """Returns the oldest active superuser, or None."""
    from django.contrib.auth import get_user_model

    return get_user_model().objects.filter(is_superuser=True, is_active=True).order_by("pk").first()


def _superuser():
    """Returns [username in the LMS, e-mail address] of the oldest active superuser, or None.

    The username is "" if none was reserved yet.
    """
    user = _superuser_record()
    return [_lms_name(user), user.email] if user else None


def _lms_name(user):
    """Returns the user's username in the LMS; "" if unknown.

    Applications built on Usher and MITx Online store it in a separate record. In other
    applications, usernames are the same as in the LMS.
    """
    from django.apps import apps
    from django.core.exceptions import ObjectDoesNotExist

    if apps.is_installed("usher.application"):
        try:
            return user.lms_account.username
        except ObjectDoesNotExist:
            return ""
    if hasattr(type(user), "edx_username"):
        return user.edx_username or ""
    return user.get_username()


def _paths():
    """Returns the paths of the toolkit's views in this application."""
    from django.urls import NoReverseMatch, reverse

    paths = {}
    for name in ("authorize", "token"):
        try:
            paths[name] = reverse("oauth2_provider:" + name)
        except NoReverseMatch:
            paths[name] = ""
    return paths


def _toolkit_version():
    try:
        from importlib.metadata import version

        return version("django-oauth-toolkit")
    except Exception:  # noqa: BLE001 - it is only displayed
        return ""


def main(params):
    """Calls the function that ``params["action"]`` names, and prints its result or its error."""
    actions = {
        "inspect": inspect,
        "check": check,
        "write": write,
        "remove": remove,
        "reserve_superuser": reserve_superuser,
    }
    action = actions[params["action"]]
    try:
        _load_django()
        answer = action(params)
    except Exception as error:  # noqa: BLE001 - reported to the caller, whatever it is
        answer = {"error": f"{type(error).__name__}: {error}"}
    print("\n" + ANSWER_MARK + json.dumps(answer, default=str), flush=True)  # noqa: T201


if "PARAMS" in globals():
    main(globals()["PARAMS"])
