import getpass
import json
import os
import sys
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from usher.application.management import instance
from usher.application.management.output import EngineCommand
from usher.contract.secret_values import MIN_SECRET_LENGTH

#: The usernames of the users that the command creates.
SUPERUSER, LEARNER = "admin", "testlearner"
#: The environment variables with the passwords for ``--no-input``.
SUPERUSER_PASSWORD = "DJANGO_SUPERUSER_PASSWORD"  # noqa: S105 - a name
LEARNER_PASSWORD = "USHER_TEST_LEARNER_PASSWORD"  # noqa: S105 - a name
#: The environment variable with the client secret that the LMS has. The secret is no argument,
#: because every user of the machine can see the arguments of a command.
CLIENT_SECRET = "USHER_EDX_OAUTH_SECRET"  # noqa: S105 - a name


class Command(EngineCommand):
    help = "Prepare this application for an LMS: OAuth client, superuser, test learner, courses."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "platform",
            nargs="?",
            default="none",
            choices=["none", "linux", "macos"],
            help="operating system of the machine with the LMS's containers: linux or macos; none: "
            "the LMS does not run in containers (default)",
        )
        parser.add_argument(
            "--gateway", default="", help="IP address of the gateway of the LMS's container network"
        )
        parser.add_argument("--tutor", action="store_true", help="the LMS is run by Tutor (local)")
        parser.add_argument(
            "--tutor-dev", action="store_true", help="the LMS is run by Tutor (dev, nightly)"
        )
        parser.add_argument(
            "--dont-enroll", action="store_true", help="do not enroll the test learner"
        )
        parser.add_argument(
            "--dont-create-superuser",
            action="store_true",
            help=f"do not create the superuser {SUPERUSER}",
        )
        parser.add_argument(
            "--dont-create-users",
            action="store_true",
            help="create neither superuser nor test learner",
        )
        parser.add_argument(
            "--edx-oauth-client",
            default="",
            metavar="ID",
            help="the client id that the LMS has (default: a new one)",
        )
        parser.add_argument(
            "--edx-oauth-secret",
            default="",
            metavar="SECRET",
            help="the client secret that the LMS has; the process list shows an option, so use the "
            f"environment variable {CLIENT_SECRET} instead",
        )
        parser.add_argument(
            "--no-input",
            action="store_true",
            help=f"read passwords from {SUPERUSER_PASSWORD} and {LEARNER_PASSWORD}",
        )

    def act(self, **options: Any) -> None:
        if options["platform"] == "linux" and not options["gateway"]:
            raise CommandError(
                "On Linux the containers reach this machine by a gateway: add --gateway IP "
                "(docker network inspect tutor_dev_default shows it)."
            )
        if options["gateway"] and not instance.is_host(options["gateway"]):
            raise CommandError(
                f"--gateway is {options['gateway']!r}: write an IP address or a host name, "
                "without http:// and without a port."
            )
        secret = options["edx_oauth_secret"] or os.environ.get(CLIENT_SECRET, "")
        if 0 < len(secret) < MIN_SECRET_LENGTH:
            raise CommandError(
                f"The client secret has {len(secret)} characters: it can be guessed. Use a long "
                "random one, such as the output of `openssl rand -hex 32`, in the LMS too."
            )
        addresses = instance.lms_addresses(
            options["platform"],
            options["gateway"],
            tutor=options["tutor"],
            tutor_dev=options["tutor_dev"],
        )
        if not addresses:
            raise CommandError(
                "OPENEDX_API_BASE_URL is not set: set it to the LMS's address, to which sign-in "
                "redirects."
            )
        if options["dry_run"]:
            self._show({"addresses": addresses, "dry_run": True}, options)
            return
        passwords = {} if options["dont_create_users"] else self._passwords(options)
        try:
            with transaction.atomic():
                results = self._create_records(addresses, passwords, secret, options)
        except instance.CantMakeUser as error:
            raise CommandError(str(error)) from error
        self._show(results, options)

    def _create_records(
        self, addresses: list[str], passwords: dict[str, str], secret: str, options: Any
    ) -> dict[str, Any]:
        """Creates the users, the LMS's OAuth2 record, and the rows of the courses and of the test
        learner. Returns the values to print.

        addresses: the LMS's, for the redirect URIs of its record. passwords: username → password,
        of the users to create. secret: the client secret that the LMS has, or '' for a new one."""
        users = {
            name: instance.make_user(
                name,
                f"{name}@{instance.DOMAIN}",
                _full_name(name),
                password,
                superuser=name == SUPERUSER,
            )
            for name, password in passwords.items()
        }
        client = instance.make_client(addresses, options["edx_oauth_client"], secret)
        learner = instance.find_user(LEARNER)
        instance.make_runs_and_enrollments(learner, enrolled=not options["dont_enroll"])
        return {
            "client_id": client.client_id,
            "client_secret": client.secret or None,
            "created_users": sorted(users),
            "addresses": addresses,
            "changed": bool(users or client.is_changed),
            "client_changed": client.is_changed,
        }

    def _passwords(self, options: Any) -> dict[str, str]:
        """Username → password, of the users to create: typed in twice, or from the environment."""
        accounts = [] if options["dont_create_superuser"] else [(SUPERUSER, SUPERUSER_PASSWORD)]
        accounts.append((LEARNER, LEARNER_PASSWORD))
        passwords = {}
        for name, variable in accounts:
            if instance.find_user(name) is not None:
                continue
            password = os.environ.get(variable, "")
            if not password and options["no_input"]:
                raise CommandError(f"{variable} is not set: it is the password of {name}.")
            passwords[name] = password or self._ask_new_password(name)
        return passwords

    def _ask_new_password(self, name: str) -> str:
        if not sys.stdin.isatty():
            raise CommandError("There is no terminal to ask for passwords: use --no-input.")
        while True:
            password = _ask_password(f"Password for {name}: ")
            try:
                validate_password(password)
            except ValidationError as error:
                self.note(" ".join(error.messages))
                continue
            if password == _ask_password("Repeat the password: "):
                return password
            self.note("The two passwords differ.")

    def _show(self, results: dict[str, Any], options: Any) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(results))
            return
        # Of these values, a dry run has only the addresses.
        for name in results.get("created_users", ()):
            self.stdout.write(f"✓ created {name} ({name}@{instance.DOMAIN})")
        if "client_id" in results:
            self.stdout.write(f"Client ID:     {results['client_id']}")
            self.stdout.write(f"Client secret: {results['client_secret'] or '(not shown again)'}")
        label = "would be registered" if options["dry_run"] else "registered"
        self.stdout.write(f"Redirect URIs {label} for: " + ", ".join(results["addresses"]))
        if "changed" in results and not results["changed"]:
            self.stdout.write("✓ nothing to change")


def _ask_password(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError as error:
        raise CommandError("No password was given: nothing was created.") from error


def _full_name(username: str) -> str:
    return {SUPERUSER: "Admin", LEARNER: "Test Learner"}[username]
