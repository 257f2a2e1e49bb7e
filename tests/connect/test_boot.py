"""Fresh checkouts, which lack the ``.env``, settings that they need to start, or assets."""

import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.connect.test_application import ADDRESSES, application, description, target_of
from tests.support.checkout import PlainCheckout
from usher.connect.application import boot
from usher.connect.application.checkout import ApplicationOptions, recognise
from usher.connect.application.example import make_env, with_example
from usher.connect.errors import Refused
from usher.contract.envfile import EnvFile

#: Required settings that connect writes.
WRITTEN_BY_CONNECT = {"OPENEDX_API_CLIENT_ID", "OPENEDX_API_CLIENT_SECRET"}
#: Required settings that get example values.
OTHER_REQUIRED = ("MAILGUN_SENDER_DOMAIN", "MAILGUN_KEY", "SHOP_SECRET_PLACE")
#: The command that creates the application's tables.
MIGRATE = "./manage.py migrate"


def require_settings(shop: PlainCheckout) -> None:
    """Makes the shop refuse to start without the settings that the real applications require."""
    names = " ".join([*sorted(WRITTEN_BY_CONNECT), *OTHER_REQUIRED])
    text = shop.env_file.read_text()
    shop.env_file.write_text(f'{text}SHOP_COMPANY_ID=\nSHOP_REQUIRED="{names}"\n')


def test_an_application_is_examined_with_placeholders_and_example_values_are_written(
    shop: PlainCheckout,
):
    require_settings(shop)
    original_text = shop.env_file.read_text()
    target = target_of(shop)
    target.examine(application=None, addresses=ADDRESSES)
    assert target.facts["oauth_name"] == "edx-oauth-app"
    assert target.new_example_values == {
        "SHOP_COMPANY_ID": "1",
        "MAILGUN_SENDER_DOMAIN": "mail.example.org",
        "MAILGUN_KEY": "no-key-yet",
        "SHOP_SECRET_PLACE": boot.PLACEHOLDER,
    }
    assert shop.env_file.read_text() == original_text  # examining writes nothing

    application_entry = application(shop.url)
    target.write_record(application_entry, ADDRESSES)
    target.write_env(
        target.env_values(description(application_entry), ADDRESSES) | target.new_example_values
    )
    values = EnvFile.read(shop.env_file).values()
    assert values["MAILGUN_KEY"] == "no-key-yet"
    assert values["OPENEDX_API_CLIENT_ID"] == "id-of-the-shop"
    # From now on the application starts with the written values and without placeholders.
    later_target = target_of(shop)
    later_target.examine(application=None, addresses=ADDRESSES)
    assert later_target.manage.placeholders == {}
    assert later_target.facts["settings"]["OPENEDX_API_CLIENT_ID"] == "id-of-the-shop"


def test_the_oauth2_record_can_be_removed_after_the_settings_were_restored(shop: PlainCheckout):
    """Disconnecting restores the ``.env`` before it removes the record. In between, the application
    starts only with placeholders."""
    require_settings(shop)
    target = target_of(shop)
    target.examine(application=None, addresses=ADDRESSES)
    application_entry = application(shop.url)
    target.write_record(application_entry, ADDRESSES)
    written_values = target.env_values(description(application_entry), ADDRESSES)
    target.write_env(written_values | target.new_example_values)

    later_target = target_of(shop)
    later_target.examine(application=None, addresses=ADDRESSES)
    later_target.restore_env(written_values)
    assert "OPENEDX_API_CLIENT_ID" not in EnvFile.read(shop.env_file).values()
    assert later_target.remove_record(application_entry.client_id) == "removed"
    assert not later_target.has_record(application_entry)


def test_values_of_placeholders_are_not_in_arguments(shop: PlainCheckout):
    require_settings(shop)
    target = target_of(shop)
    target.examine(application=None, addresses=ADDRESSES)
    calls = "".join(file.read_text() for file in shop.state.rglob("calls.log"))
    assert '"-e", "MAILGUN_KEY"' in calls
    assert "no-key-yet" not in calls


@pytest.mark.parametrize(
    ("error_text", "written_by_connect", "with_examples"),
    [
        (
            "django.core.exceptions.ImproperlyConfigured: The following settings are missing: "
            "SECRET_KEY, MAILGUN_KEY, OPENEDX_API_CLIENT_ID. You need to add these environment "
            "variables in .env file.",
            {"OPENEDX_API_CLIENT_ID"},
            {"SECRET_KEY", "MAILGUN_KEY"},
        ),
        ("Set the STRIPE_KEY environment variable", set(), {"STRIPE_KEY"}),
        (
            "decouple.UndefinedValueError: STRIPE_KEY not found. Declare it as envvar or",
            set(),
            {"STRIPE_KEY"},
        ),
        ("  File x\nKeyError: 'STRIPE_KEY'", set(), {"STRIPE_KEY"}),
        ("settings are missing: DATABASE_URL.", set(), set()),  # DATABASE_URL has no placeholder
        ("OperationalError: connection refused", set(), set()),
    ],
)
def test_missing_settings_are_read_from_the_error_of_an_application(
    error_text: str, written_by_connect: set, with_examples: set
):
    missing = boot.missing_settings(error_text)
    assert (set(missing.written_by_connect), set(missing.with_examples)) == (
        written_by_connect,
        with_examples,
    )
    # Settings that have a placeholder already are not read again.
    assert not boot.missing_settings(error_text, written_by_connect | with_examples)


def test_a_secret_key_is_generated_each_time():
    error_text = "settings are missing: SECRET_KEY."
    first, second = (
        boot.missing_settings(error_text).with_examples["SECRET_KEY"] for _ in range(2)
    )
    assert first != second
    assert len(first) > 40


@pytest.mark.parametrize(
    ("error_text", "advice"),
    [
        ("OSError: Error reading /src/webpack-stats/default.json. Are you", "up -d watch"),
        ('relation "oauth2_provider_application" does not exist', MIGRATE),
        ("no such table: oauth2_provider_application", MIGRATE),
        ("settings are missing: DATABASE_URL. You", "it needs DATABASE_URL"),
        ("TypeError: 'sslmode' is an invalid keyword argument for Connection()", "PostgreSQL"),
        ("TypeError: Connection() got an unexpected keyword argument 'sslmode'", "PostgreSQL"),
        (
            'connection to server at "::1", port 5432 failed: Connection refused',
            "database does not answer",
        ),
        ('could not translate host name "db" to address', "database does not answer"),
        ("server does not support SSL, but SSL was required", "MITXPRO_DB_DISABLE_SSL=True"),
        ("something else", ""),
    ],
)
def test_an_error_that_only_the_operator_can_correct_leads_to_advice(error_text: str, advice: str):
    text = boot.advice(error_text, compose=True, migrate=MIGRATE)
    assert advice in text
    assert bool(text) == bool(advice)


def test_advice_mentions_docker_only_for_an_application_in_containers():
    assets_error = "FileNotFoundError: No such file or directory: '/src/webpack-stats/default.json'"
    with_compose, without_compose = (
        boot.advice(assets_error, compose=compose, migrate=MIGRATE) for compose in (True, False)
    )
    assert "(/src/webpack-stats/default.json is missing)" in with_compose
    assert "docker" not in without_compose
    assert "docker" not in boot.advice("no such table: users_user", compose=False, migrate=MIGRATE)
    error_text = (
        "docker compose run --rm -T web ./manage.py shell ended with 125:\n unknown flag: --rm"
    )
    advice = boot.advice(error_text, compose=True, migrate=MIGRATE)
    assert "docker compose is not installed" in advice
    assert "--manage" in advice


def test_advice_for_an_application_that_needs_postgresql_is_not_to_migrate_sqlite():
    error_text = "OperationalError: no such table: oauth2_provider_application"
    advice = boot.advice(error_text, compose=False, migrate=MIGRATE, needs_postgresql=True)
    assert "DATABASE_URL=postgres://" in advice
    error_text = 'relation "oauth2_provider_application" does not exist'
    assert MIGRATE in boot.advice(error_text, compose=False, migrate=MIGRATE, needs_postgresql=True)


def test_the_refusal_of_an_unmigrated_application_has_a_migrate_command_that_works(
    shop: PlainCheckout,
):
    (shop.folder / "db.sqlite3").unlink()
    require_settings(shop)
    target = target_of(shop)
    with pytest.raises(
        Refused, match=r"no table oauth2_provider_application. Migrate it:"
    ) as refusal:
        target.examine(application=None, addresses=ADDRESSES)
    # The command contains placeholders for settings that the .env lacks, so the application starts.
    _, _, after_label = str(refusal.value).partition("Migrate it: `")
    command, _, _ = after_label.partition("`, then run this command again")
    assert "MAILGUN_KEY=no-key-yet" in command
    assert "Its error: OperationalError" in str(refusal.value)  # the application is named once
    subprocess.run(shlex.split(command), cwd=shop.folder, env=shop.environment, check=True)
    target_of(shop).examine(application=None, addresses=ADDRESSES)


@pytest.mark.parametrize(
    "line",
    [
        "OF_THE_ENV='with a space'\n",
        "OF_THE_ENV=with a space\r\nOTHER=shops & friends (local)\r\n",  # no shell can read this
    ],
)
def test_a_migration_without_containers_works_in_any_folder_with_the_settings_of_the_env(
    shop: PlainCheckout, tmp_path: Path, line: str
):
    script = "import os; print(os.environ['MAILGUN_KEY'], os.environ['OF_THE_ENV'], os.getcwd())"
    (shop.folder / "manage.py").write_text(script)
    shop.env_file.write_text(f"{line}MAILGUN_KEY=\n", newline="")
    target = target_of(shop, manage=f"{sys.executable} manage.py")
    target.manage.placeholders = {"MAILGUN_KEY": "no-key-yet", "SECRET_KEY": "generated"}
    command = target.manage.runnable("migrate")
    # A generated secret is not printed.
    assert "SECRET_KEY=usher-placeholder" in command
    assert "generated" not in command
    result = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout.split("\n")[0] == f"no-key-yet with a space {shop.folder}"


def test_a_migration_without_containers_and_env_gets_only_the_placeholders(shop: PlainCheckout):
    shop.env_file.unlink()
    target = target_of(shop, manage="python manage.py")
    assert target.manage.runnable("migrate") == f"(cd {shop.folder} && python manage.py migrate)"
    target.manage.placeholders = {"MAILGUN_KEY": "no-key-yet"}
    assert target.manage.runnable("migrate") == (
        f"(cd {shop.folder} && env MAILGUN_KEY=no-key-yet python manage.py migrate)"
    )


def test_a_missing_env_is_created_from_the_example_if_the_operator_agrees(shop: PlainCheckout):
    shop.env_file.unlink()
    checkout = recognise(ApplicationOptions(str(shop.folder)))
    with pytest.raises(Refused, match=r"cp \S+/env.example .*\.env; or leave --dry-run out"):
        make_env(checkout, dry_run=True, confirm=lambda _: True)
    with pytest.raises(Refused, match=r"is missing; create it: cp"):
        make_env(checkout, dry_run=False, confirm=lambda _: False)
    assert not shop.env_file.exists()
    questions: list[str] = []

    def confirm(question: str) -> bool:
        questions.append(question)
        return True

    result = make_env(checkout, dry_run=False, confirm=confirm)
    assert questions == [f"{shop.env_file} is missing. Create it from env.example?"]
    assert result == f"{shop.env_file} created from env.example"
    assert shop.env_file.read_text() == (shop.folder / "env.example").read_text()
    assert shop.env_file.stat().st_mode & 0o777 == 0o600
    assert make_env(checkout, dry_run=False, confirm=lambda _: False) == ""


def test_a_dry_run_examines_an_application_with_the_example_in_place_of_a_missing_env(
    shop: PlainCheckout,
):
    shop.env_file.unlink()
    with (shop.folder / "env.example").open("a") as example:
        example.write("\nOPENEDX_API_BASE_URL=http://lms.example.org\n")
    target = target_of(shop)
    target.checkout = with_example(target.checkout)
    assert target.differing_keys({"OPENEDX_API_BASE_URL": "http://lms.example.org"}) == []
    assert not shop.env_file.exists()
    # An existing ``.env`` is read, not the example.
    shop.env_file.write_text("")
    assert with_example(replace(target.checkout, example=None)).settings_file == shop.env_file


def test_a_compose_checkout_with_neither_env_nor_example_is_refused(shop: PlainCheckout):
    shop.env_file.unlink()
    (shop.folder / "env.example").unlink()
    with pytest.raises(Refused, match=r"there is no \.env\.example"):
        make_env(
            recognise(ApplicationOptions(str(shop.folder))), dry_run=False, confirm=lambda _: True
        )
