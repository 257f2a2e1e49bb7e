"""A fresh checkout: without ``.env``, without settings that it needs to start, or without
assets."""

import shlex
import subprocess
from dataclasses import replace

import pytest

from tests.connect.test_application import ADDRESSES, application, description, side_of
from tests.support.checkout import PlainCheckout
from usher.connect.application import boot
from usher.connect.application.checkout import ApplicationOptions, recognise
from usher.connect.application.example import make_env, with_example
from usher.connect.errors import Refused
from usher.contract.envfile import EnvFile

OURS = {"OPENEDX_API_CLIENT_ID", "OPENEDX_API_CLIENT_SECRET"}
NEEDED = ("MAILGUN_SENDER_DOMAIN", "MAILGUN_KEY", "SHOP_SECRET_PLACE")


def demand(shop: PlainCheckout) -> None:
    """Makes the shop require the same settings at its start as the real applications."""
    names = " ".join([*sorted(OURS), *NEEDED])
    text = shop.env_file.read_text()
    shop.env_file.write_text(f'{text}SHOP_COMPANY_ID=\nSHOP_REQUIRED="{names}"\n')


def test_an_application_is_examined_with_placeholders_and_example_values_are_written(
    shop: PlainCheckout,
):
    demand(shop)
    before = shop.env_file.read_text()
    side = side_of(shop)
    side.probe(None, ADDRESSES)
    assert side.facts["oauth_name"] == "edx-oauth-app"
    assert side.needed == {
        "SHOP_COMPANY_ID": "1",
        "MAILGUN_SENDER_DOMAIN": "mail.example.org",
        "MAILGUN_KEY": "no-key-yet",
        "SHOP_SECRET_PLACE": boot.PLACEHOLDER,
    }
    assert shop.env_file.read_text() == before  # examining writes nothing

    wanted = application(shop.url)
    side.write_record(wanted, ADDRESSES)
    side.write_env(side.env_values(description(wanted), ADDRESSES) | side.needed)
    values = EnvFile.read(shop.env_file).values()
    assert values["MAILGUN_KEY"] == "no-key-yet"
    assert values["OPENEDX_API_CLIENT_ID"] == "id-of-the-shop"
    # From now on it starts without placeholders, with the written values.
    again = side_of(shop)
    again.probe(None, ADDRESSES)
    assert again.manage.placeholders == {}
    assert again.facts["settings"]["OPENEDX_API_CLIENT_ID"] == "id-of-the-shop"


def test_the_record_is_removed_after_the_settings(shop: PlainCheckout):
    """Disconnecting restores the ``.env`` first; then the application does not start without
    placeholders."""
    demand(shop)
    side = side_of(shop)
    side.probe(None, ADDRESSES)
    wanted = application(shop.url)
    side.write_record(wanted, ADDRESSES)
    written = side.env_values(description(wanted), ADDRESSES)
    side.write_env(written | side.needed)

    leaving = side_of(shop)
    leaving.probe(None, ADDRESSES)
    leaving.restore_env(written)
    assert "OPENEDX_API_CLIENT_ID" not in EnvFile.read(shop.env_file).values()
    assert leaving.remove_record(wanted.client_id) == "removed"
    assert not leaving.has_record(wanted.client_id)


def test_placeholders_are_no_arguments(shop: PlainCheckout):
    demand(shop)
    side = side_of(shop)
    side.probe(None, ADDRESSES)
    calls = "".join(file.read_text() for file in shop.state.rglob("calls.log"))
    assert '"-e", "MAILGUN_KEY"' in calls
    assert "no-key-yet" not in calls


@pytest.mark.parametrize(
    ("said", "ours", "others"),
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
        ("settings are missing: DATABASE_URL.", set(), set()),  # there is no placeholder for it
        ("OperationalError: connection refused", set(), set()),
    ],
)
def test_the_error_of_an_application_that_does_not_start(said: str, ours: set, others: set):
    found = boot.missing(said)
    assert (set(found.ours), set(found.others)) == (ours, others)
    assert not boot.missing(said, ours | others)  # an error that a placeholder does not remove


def test_a_secret_key_is_generated_each_time():
    said = "settings are missing: SECRET_KEY."
    first, second = (boot.missing(said).others["SECRET_KEY"] for _ in range(2))
    assert first != second
    assert len(first) > 40


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("OSError: Error reading /src/webpack-stats/default.json. Are you", "up -d watch"),
        ('relation "oauth2_provider_application" does not exist', "./manage.py migrate"),
        ("no such table: oauth2_provider_application", "./manage.py migrate"),
        ("settings are missing: DATABASE_URL. You", "it needs DATABASE_URL"),
        ("something else", ""),
    ],
)
def test_steps_that_only_a_person_can_do_are_named(said: str, advice: str):
    assert advice in boot.advice(said, compose=True)
    assert bool(boot.advice(said, compose=True)) == bool(advice)


def test_advice_fits_how_the_application_runs():
    stats = "FileNotFoundError: No such file or directory: '/src/webpack-stats/default.json'"
    assert "(/src/webpack-stats/default.json is missing)" in boot.advice(stats, compose=True)
    assert "docker" not in boot.advice(stats, compose=False)
    assert "docker" not in boot.advice("no such table: users_user", compose=False)
    told = "docker compose run --rm -T web ./manage.py shell ended with 125:\n unknown flag: --rm"
    assert "docker compose is not installed" in boot.advice(told, compose=True)
    assert "--manage" in boot.advice(told, compose=True)


def test_an_application_that_was_never_migrated_names_the_command(shop: PlainCheckout):
    (shop.folder / "db.sqlite3").unlink()
    demand(shop)
    side = side_of(shop)
    with pytest.raises(Refused, match=r"no table oauth2_provider_application. Migrate it:") as told:
        side.probe(None, ADDRESSES)
    # The command works although the .env lacks settings: it has placeholders for them.
    command = str(told.value).split("Migrate it: ")[1].split(", then run this again")[0]
    assert "MAILGUN_KEY=no-key-yet" in command
    subprocess.run(shlex.split(command), cwd=shop.folder, env=shop.environment, check=True)
    side_of(shop).probe(None, ADDRESSES)


def test_a_migration_without_containers_gets_the_settings_as_variables(shop: PlainCheckout):
    side = side_of(shop, manage="python manage.py")
    assert side.manage.runnable("migrate") == "python manage.py migrate"
    side.manage.placeholders = {"MAILGUN_KEY": "no-key-yet", "SECRET_KEY": "generated"}
    assert side.manage.runnable("migrate") == (
        "env MAILGUN_KEY=no-key-yet SECRET_KEY=usher-placeholder python manage.py migrate"
    )


def test_a_missing_env_is_created_from_the_example_when_that_is_allowed(shop: PlainCheckout):
    shop.env_file.unlink()
    checkout = recognise(ApplicationOptions(str(shop.folder)))
    with pytest.raises(Refused, match=r"cp env.example .*\.env; or leave --dry-run out"):
        make_env(checkout, dry_run=True, may=lambda _: True)
    with pytest.raises(Refused, match=r"is missing; make it: cp"):
        make_env(checkout, dry_run=False, may=lambda _: False)
    assert not shop.env_file.exists()
    asked: list[str] = []
    said = make_env(checkout, dry_run=False, may=lambda text: not asked.append(text))
    assert asked == [f"{shop.env_file} is missing. Make it from env.example?"]
    assert said == f"{shop.env_file} created from env.example"
    assert shop.env_file.read_text() == (shop.folder / "env.example").read_text()
    assert shop.env_file.stat().st_mode & 0o777 == 0o600
    assert make_env(checkout, dry_run=False, may=lambda _: False) == ""


def test_a_dry_run_examines_an_application_with_the_example_in_place_of_a_missing_env(
    shop: PlainCheckout,
):
    shop.env_file.unlink()
    with (shop.folder / "env.example").open("a") as example:
        example.write("\nOPENEDX_API_BASE_URL=http://lms.example.org\n")
    side = side_of(shop)
    side.checkout = with_example(side.checkout)
    assert side.differing({"OPENEDX_API_BASE_URL": "http://lms.example.org"}) == []
    assert not shop.env_file.exists()
    shop.env_file.write_text("")
    assert with_example(replace(side.checkout, example=None)).settings_file == shop.env_file


def test_without_an_example_it_is_said(shop: PlainCheckout):
    shop.env_file.unlink()
    (shop.folder / "env.example").unlink()
    with pytest.raises(Refused, match=r"there is no \.env\.example"):
        make_env(recognise(ApplicationOptions(str(shop.folder))), dry_run=False, may=lambda _: True)
