"""Secret values of settings are hidden in the errors that commands show."""

import sys
from pathlib import Path

import pytest

from usher.connect.application.checkout import Checkout
from usher.connect.application.manage import Manage
from usher.connect.errors import ToolFailed
from usher.contract.secret_values import Secrets
from usher.doctor.facts.commands import Command, CommandError
from usher.sidecar.errors import AgentFailed
from usher.sidecar.process import Agent

#: A manage.py that prints its settings and the password in the database's address, and fails.
PRINTS_SETTINGS = """
import os, sys
from urllib.parse import unquote, urlsplit
address = os.environ["DATABASE_URL"]
password = urlsplit(address).password
print(address, password, unquote(password), os.environ["MAIL_PASS"], "HOST_NAME=" +
    os.environ["HOST_NAME"], file=sys.stderr)
sys.exit(3)
"""
SETTINGS = {
    "DATABASE_URL": "postgres://shop:Correct%40Horse@db:5432/shop",
    "MAIL_PASS": "Battery-Staple",
    "HOST_NAME": "shop.example.org",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    (tmp_path / "manage.py").write_text(PRINTS_SETTINGS)
    lines = [f"{name}={value}\n" for name, value in SETTINGS.items()]
    (tmp_path / ".env").write_text("".join(lines))
    return Checkout(
        name="shop",
        title="Shop",
        edition=None,
        folder=tmp_path,
        env_file=tmp_path / ".env",
        manage=(sys.executable, "manage.py"),
        compose=False,
        url="",
    )


def error_of_connect(checkout: Checkout) -> str:
    # The command fails; connect shows this error.
    with pytest.raises(ToolFailed) as failure:
        Manage(checkout, Secrets()).run_command("check")
    return str(failure.value)


def error_of_doctor(checkout: Checkout) -> str:
    command = Command(checkout.manage, checkout.folder, env_file=checkout.env_file)
    with pytest.raises(CommandError) as failure:
        command.output("check")
    return str(failure.value)


def error_of_the_sidecar(checkout: Checkout) -> str:
    with pytest.raises(AgentFailed) as failure, Agent(checkout):
        pass
    return str(failure.value)


@pytest.mark.parametrize("error_of", [error_of_connect, error_of_doctor, error_of_the_sidecar])
def test_an_application_that_prints_its_settings_reveals_no_secret(checkout: Checkout, error_of):
    error = error_of(checkout)
    assert "HOST_NAME=shop.example.org" in error
    for secret in ("Correct%40Horse", "Correct@Horse", "Battery-Staple"):
        assert secret not in error


@pytest.mark.parametrize(
    ("name", "value", "message", "shown"),
    [
        # urllib takes the password up to the slash for a port, and its error quotes the password.
        (
            "DATABASE_URL",
            "mysql://shop:Correct-Horse/Battery@db/shop",
            "Port could not be cast to integer value as 'Correct-Horse'",
            "Port could not be cast to integer value as '(hidden)'",
        ),
        ("API_KEYS", "first-key-1, other-key-2", "bad: other-key-2", "bad: (hidden)"),
        ("SIGNING_KEY", "-----BEGIN\nMIIEvQIBADANBg\n", "at MIIEvQIBADANBg", "at (hidden)"),
        ("REPLICA", "redis://:Correct-Horse@cache/0", "Correct-Horse", "(hidden)"),
        # The password of the example files of both applications.
        (
            "DATABASE_URL",
            "postgres://postgres:postgres@db:5432/postgres",
            'no database "postgres"',
            'no database "postgres"',
        ),
        # A short secret is hidden where it is certainly the secret.
        ("MAIL_PASS", "art", "MAIL_PASS=art in the cart", "MAIL_PASS=(hidden) in the cart"),
        ("MAIL_PASS", "art", "{'MAIL_PASS': 'art'}", "{'MAIL_PASS': '(hidden)'}"),
        ("MAIL_PASS", "art", "MAIL_PASS: article", "MAIL_PASS: article"),
        (
            "REPLICA",
            "redis://:art@cache/0",
            "at redis://:art@cache/1",
            "at redis://:(hidden)@cache/1",
        ),
        ("HOST_NAME", "shop.example.org", "shop.example.org", "shop.example.org"),
        ("KEYCLOAK_URL", "https://sso.example", "https://sso.example", "https://sso.example"),
    ],
)
def test_parts_of_a_secret_that_an_error_quotes_are_hidden(name, value, message, shown):
    secrets = Secrets()
    secrets.add_settings({name: value})
    assert secrets.hide(message) == shown
