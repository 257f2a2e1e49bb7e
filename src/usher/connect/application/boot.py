"""Parses the errors of an application that does not start, to find settings that it lacks.

A fresh checkout lacks settings that connect will write, and other settings, for which an example
value is enough. While connect examines the application, settings that it will write have
placeholders. The other settings become part of the plan, with example values.
"""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from usher.connect.application.settings import KEYS
from usher.journey.sign_in import missing_table

#: The temporary value, while connect examines the application, of settings that it will write.
PLACEHOLDER = "usher-placeholder"
#: Example values with which the application starts without contacting other servers.
EXAMPLES = {
    "MAILGUN_SENDER_DOMAIN": "mail.example.org",
    "MAILGUN_KEY": "no-key-yet",
    "EXTERNAL_COURSE_SYNC_API_KEY": "no-key-yet",
    "MITX_ONLINE_ADMIN_EMAIL": "admin@localhost",
    "MITXPRO_ADMIN_EMAIL": "admin@localhost",
}
#: Settings for which no example value works.
_WITHOUT_EXAMPLE = ("DATABASE_URL",)
#: The name of a setting.
_NAME = r"[A-Z][A-Z0-9_]{2,}"
#: Errors about missing settings, with one name or several names with commas.
_MISSING = (
    # mitol-django-common, used by MITx Online and MIT xPro
    re.compile(r"settings are missing: ([A-Z0-9_, ]+)"),
    # django-environ, and python-decouple
    re.compile(rf"Set the ({_NAME}) environment variable"),
    re.compile(rf"({_NAME}) not found\. Declare it as envvar"),
    re.compile(rf"ImproperlyConfigured: ({_NAME}) is required"),
    # os.environ["NAME"] in a settings file
    re.compile(rf"^\s*KeyError: '({_NAME})'", re.MULTILINE),
)
#: An error about a value of the wrong type, such as an empty value: the setting, the type.
_EMPTY = re.compile(rf"Expected value in ({_NAME})= to be an? (\w+)")
#: Type that an error names → an example value of this type.
_EXAMPLE_OF_TYPE = {"int": "1", "boolean": "False", "float": "1", "list": "[]"}
#: The list of built assets, in the error of an application whose assets aren't built.
_WEBPACK = re.compile(r"([^\s'\"]*webpack-stats[^\s'\"]*?\.json)")
#: Errors of a machine without docker, or of a docker without ``docker compose``.
_NO_COMPOSE = re.compile(
    r"unknown flag: --rm|unknown shorthand flag|'compose' is not a docker command|docker: not found"
)
#: Errors of psycopg and SQLite that reject the options of MITx Online's and MIT xPro's database
#: settings.
_NO_TLS = "server does not support SSL"
_NOT_POSTGRESQL = re.compile(r"TypeError: .*'sslmode'")
#: SQLite's error for a missing table; PostgreSQL's has other words.
_SQLITE = "no such table: "
#: Errors of psycopg if nothing answers at the database's address, or its host does not resolve.
_NO_DATABASE = re.compile(
    r"connection to server [^\n]*? failed: (?:Connection refused|[^\n]*timed? ?out|timeout)"
    r"|connection is bad|could not (?:connect to server|translate host name)"
    r"|connection timeout expired|failed to resolve host"
)
#: The error of docker compose if a ``.env`` that the compose file names is missing.
_NO_ENV_FILE = re.compile(r"env file (\S+) not found")


@dataclass(frozen=True)
class Missing:
    """The settings that an application needs to start.

    written_by_connect: those that connect will write, with placeholders; with_examples: all others,
    with example values.
    """

    written_by_connect: dict[str, str]
    with_examples: dict[str, str]

    def __bool__(self) -> bool:
        return bool(self.written_by_connect or self.with_examples)


def missing_settings(error_text: str, known_names: Iterable[str] = ()) -> Missing:
    """Returns the settings that ``error_text`` names, except those in ``known_names``."""
    unknown_type = ""
    types = dict.fromkeys(_missing_names(error_text), unknown_type)
    types |= dict(_EMPTY.findall(error_text))
    missing_types = {
        name: type_name
        for name, type_name in types.items()
        if name not in set(known_names) and name not in _WITHOUT_EXAMPLE
    }
    return Missing(
        written_by_connect={name: PLACEHOLDER for name in missing_types if name in KEYS},
        with_examples={
            name: _example(name, type_name)
            for name, type_name in missing_types.items()
            if name not in KEYS
        },
    )


def _missing_names(error_text: str) -> list[str]:
    matches = [match for pattern in _MISSING for match in pattern.findall(error_text)]
    return [name.strip() for names in matches for name in names.split(",") if name.strip()]


def _example(name: str, type_name: str) -> str:
    if name == "SECRET_KEY":
        return secrets.token_urlsafe(48)
    return EXAMPLES.get(name) or _EXAMPLE_OF_TYPE.get(type_name, PLACEHOLDER)


def advice(error_text: str, *, compose: bool, migrate: str, needs_postgresql: bool = False) -> str:
    """Returns advice about an application that can't start; "" if its error is unknown.

    compose: whether docker compose runs the application. migrate: the command that creates its
    tables. needs_postgresql: whether its migrations fail on SQLite, its database if DATABASE_URL is
    not set.
    """
    last_step = "then run this command again"
    if match := _WEBPACK.search(error_text):
        build = (
            "Start the service that builds them: docker compose up -d watch; wait until the file "
            "is there"
            if compose
            else "Build them as its service watch in its compose file does"
        )
        return f"its assets are not built yet ({match[1]} is missing). {build}, {last_step}"
    if _NOT_POSTGRESQL.search(error_text) or (needs_postgresql and _SQLITE in error_text):
        return (
            "it needs a PostgreSQL database; set its address as DATABASE_URL in its .env, "
            f"for example DATABASE_URL=postgres://USER:PASSWORD@localhost:5432/NAME, {last_step}"
        )
    if table := missing_table(error_text):
        return f"its database has no table {table}. Migrate it: `{migrate}`, {last_step}"
    if compose and _NO_COMPOSE.search(error_text):
        return (
            "docker compose is not installed here. Install it; if the application runs without "
            "containers, give the command that runs its manage.py, for example "
            "--manage '/path/to/venv/bin/python manage.py'"
        )
    if match := _NO_ENV_FILE.search(error_text):
        return f"{match[1]} is missing; make it, {last_step}"
    if _NO_DATABASE.search(error_text):
        return (
            "its database does not answer. Start it, or correct the application's DATABASE_URL, "
            f"{last_step}"
        )
    if _NO_TLS in error_text:
        return (
            "its database has no TLS; set MITX_ONLINE_DB_DISABLE_SSL=True (MIT xPro: "
            f"MITXPRO_DB_DISABLE_SSL=True) in its .env, {last_step}"
        )
    names = [name for name in _WITHOUT_EXAMPLE if name in _missing_names(error_text)]
    if names:
        return f"it needs {names[0]}; set it in its .env, {last_step}"
    return ""
