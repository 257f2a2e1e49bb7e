"""The application's part of a connection: a checkout, its OAuth2 record and its .env."""

import json
import re
import sqlite3
import stat
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.checkout import PlainCheckout
from usher.cli.demo.database import copy_migrated
from usher.connect import checks, manual
from usher.connect.application.checkout import ApplicationOptions, recognise
from usher.connect.application.remote import RemoteApplication
from usher.connect.application.settings import SETTINGS
from usher.connect.application.target import Addresses, TargetApplication
from usher.connect.errors import NeedsPerson, Refused, ToolFailed
from usher.connect.openedx.configuration import BackendChoice
from usher.contract.editions import MITXONLINE, MITXPRO
from usher.contract.provisioning import Application, Description, ServiceWorker
from usher.contract.secret_values import Secrets

ADDRESSES = Addresses(
    "http://lms.example:8000", "http://lms.example:8000", lms_on_this_machine=True
)
#: The client secret of the LMS in the application.
SECRET = "s3cret-" + "x" * 40


def application(url: str, **changes) -> Application:
    """The entry of an application at ``url`` in the LMS's description."""
    values = {
        "name": "shop",
        "backend": "ol-oauth2",
        "provider_name": "mitxApplication",
        "client_id": "id-of-the-lms",
        "client_secret": SECRET,
        "authorization_url": f"{url}/oauth2/authorize/",
        "access_token_url": f"{url}/oauth2/token/",
        "api_root": f"{url}/",
        "logout_url": f"{url}/logout/",
        "oauth_name": "edx-oauth-app",
        "oauth_client_id": "id-of-the-shop",
        "oauth_client_secret": "other-" + "y" * 40,
        "oauth_redirect_uris": [f"{url}/login/_private/complete"],
    }
    return Application(**{**values, **changes})


def description(application_entry: Application) -> Description:
    worker = ServiceWorker("worker", "worker@example.org", "token-" + "z" * 40)
    return Description(applications=[application_entry], service_worker=worker)


def target_of(shop: PlainCheckout, **options_of_command: str) -> TargetApplication:
    """The application with these options of the command line."""
    options = ApplicationOptions(str(shop.folder), **options_of_command)
    return TargetApplication(recognise(options), options, Secrets())


def records_of(shop: PlainCheckout) -> list[dict]:
    """The OAuth2 records in the application's database: column → value."""
    with sqlite3.connect(shop.folder / "db.sqlite3") as database:
        database.row_factory = sqlite3.Row
        rows = database.execute(
            "select name, client_id, client_secret, redirect_uris, skip_authorization, client_type"
            " from oauth2_provider_application"
        )
        return [dict(row) for row in rows]


# -- recognising


def test_a_compose_checkout_is_recognised_by_its_web_service(shop: PlainCheckout):
    checkout = recognise(ApplicationOptions(str(shop.folder)))
    assert (checkout.name, checkout.compose, checkout.edition) == ("shop", True, None)
    assert checkout.manage == ("docker", "compose", "run", "--rm", "-T", "web", "./manage.py")
    assert checkout.env_file == shop.folder / ".env"


@pytest.mark.parametrize(
    ("command_file", "key", "edition"),
    [
        ("courses/management/commands/sync_courserun.py", "MITX_ONLINE_BASE_URL", MITXONLINE),
        ("courses/management/commands/sync_courseruns.py", "MITXPRO_BASE_URL", MITXPRO),
    ],
)
def test_mitx_online_and_mit_xpro_are_distinguished_by_their_files(
    tmp_path: Path, command_file, key, edition
):
    (tmp_path / command_file).parent.mkdir(parents=True)
    (tmp_path / command_file).touch()
    (tmp_path / "manage.py").touch()
    compose = f"x-environment:\n  {key}: here\nservices:\n  web:\n    image: x\n"
    (tmp_path / "docker-compose.yml").write_text(compose)
    checkout = recognise(ApplicationOptions(str(tmp_path)))
    assert (checkout.edition, checkout.name) == (edition, edition.name)
    other_edition = "mitxpro" if edition.name == "mitxonline" else "mitxonline"
    with pytest.raises(Refused, match="leave --edition out"):
        recognise(ApplicationOptions(str(tmp_path), edition=other_edition))


def test_a_checkout_with_a_virtualenv_uses_the_python_of_the_virtualenv(tmp_path: Path):
    (tmp_path / "manage.py").touch()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").touch()
    assert recognise(ApplicationOptions(str(tmp_path))).manage == (
        str(tmp_path / ".venv/bin/python"),
        "manage.py",
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no manage.py"),
        ({"manage.py": ""}, "neither a compose file"),
        ({"manage.py": "", "compose.yml": "services:\n\tweb:"}, "compose.yml is not YAML: line 2"),
    ],
)
def test_a_folder_that_is_no_application_is_refused_with_the_reason(tmp_path: Path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(Refused, match=message):
        recognise(ApplicationOptions(str(tmp_path)))


def test_a_target_that_is_neither_a_folder_nor_an_address_is_refused():
    with pytest.raises(Refused, match="neither a folder nor an http address"):
        recognise(ApplicationOptions("/no/such/folder"))


# -- the record


def test_a_created_oauth2_record_agrees_and_its_secret_works(shop: PlainCheckout):
    target = target_of(shop)
    application_entry = application(shop.url)
    target.examine(application=None, addresses=ADDRESSES)
    assert target.url == shop.url
    assert not target.record_agrees(application_entry, ADDRESSES)
    assert target.write_record(application_entry, ADDRESSES) == "created"
    assert target.record_agrees(application_entry, ADDRESSES)
    [record] = records_of(shop)
    assert record["name"] == "edx-oauth-app"
    assert record["redirect_uris"] == "http://lms.example:8000/auth/complete/ol-oauth2/"
    assert record["client_secret"] != SECRET  # the toolkit stores a hash
    shop.up()
    with httpx.Client() as client:
        assert checks._check_application_client(client, application_entry).outcome == "ok"
        wrong_secret = application(shop.url, client_secret="wrong")
        check = checks._check_application_client(client, wrong_secret)
        assert check.seen.endswith("answers invalid_client")


def test_an_existing_oauth2_record_is_updated_and_restored_unchanged(shop: PlainCheckout):
    shop.manage(
        "shell",
        stdin="from oauth2_provider.models import Application as A; A.objects.create("
        "name='edx-oauth-app', client_id='old', client_secret='old', client_type='confidential',"
        "authorization_grant_type='authorization-code', redirect_uris='http://elsewhere/x/')",
    )
    [original] = records_of(shop)
    target, application_entry = target_of(shop), application(shop.url)
    assert not target.record_agrees(application_entry, ADDRESSES)
    target.write_record(application_entry, ADDRESSES)
    [written] = records_of(shop)
    assert written["client_id"] == application_entry.client_id
    assert written["redirect_uris"].split() == [
        "http://elsewhere/x/",
        "http://lms.example:8000/auth/complete/ol-oauth2/",
    ]
    assert target_of(shop).remove_record(application_entry.client_id) == "restored"
    assert records_of(shop) == [original]


def test_a_record_that_connect_created_is_removed(shop: PlainCheckout):
    target, application_entry = target_of(shop), application(shop.url)
    assert not target.record_agrees(application_entry, ADDRESSES)
    target.write_record(application_entry, ADDRESSES)
    assert target.has_record(application_entry)
    assert target.remove_record(application_entry.client_id) == "removed"
    assert records_of(shop) == []
    assert target.remove_record(application_entry.client_id) == "removed already"


def test_secrets_are_passed_on_standard_input_only(shop: PlainCheckout):
    target, application_entry = target_of(shop), application(shop.url)
    assert not target.record_agrees(application_entry, ADDRESSES)
    target.write_record(application_entry, ADDRESSES)
    calls = next(shop.state.rglob("calls.log")).read_text()
    assert "shell" in calls
    assert SECRET not in calls


def test_an_application_that_requires_pkce_is_refused_with_a_backend_that_sends_none(
    shop: PlainCheckout,
):
    shop.env_file.write_text(shop.env_file.read_text() + "SHOP_PKCE_REQUIRED=True\n")
    target = target_of(shop)
    target.examine(application=None, addresses=ADDRESSES)
    with pytest.raises(Refused, match="requires PKCE"):
        target.check_backend("mitxpro-oauth2")


def test_the_refusal_of_an_application_that_does_not_start_has_the_end_of_its_output(
    shop: PlainCheckout,
):
    (shop.folder / "shop/settings.py").write_text("raise RuntimeError('out of order')\n")
    with pytest.raises(Refused, match=r"(?s)shop can't be reached.*out of order"):
        target_of(shop).examine(application=None, addresses=ADDRESSES)


def test_an_application_without_the_oauth_toolkit_is_refused(shop: PlainCheckout):
    settings = shop.folder / "shop/settings.py"
    settings.write_text(
        settings.read_text()
        .replace('    "oauth2_provider",\n', "")
        .replace('"shop.urls"', '"shop.none"')
    )
    (shop.folder / "shop/none.py").write_text("urlpatterns = []\n")
    with pytest.raises(Refused, match="django-oauth-toolkit"):
        target_of(shop).examine(application=None, addresses=ADDRESSES)


# -- the .env


@pytest.mark.parametrize(
    ("manage", "has_address"),
    [("", True), ("docker exec web ./manage.py", True), ("/venv/bin/python manage.py", False)],
)
def test_openedx_ip_is_set_unless_the_application_runs_in_processes_of_this_machine(
    shop: PlainCheckout, manage: str, has_address: bool
):
    target = target_of(shop, manage=manage)
    values = target.env_values(description(application(shop.url)), ADDRESSES)
    assert ("OPENEDX_IP" in values) == has_address


def test_restoring_the_env_restores_the_earlier_file_exactly(shop: PlainCheckout):
    original = shop.env_file.read_bytes()
    files = shop.tree()
    target = target_of(shop)
    values = target.env_values(description(application(shop.url)), ADDRESSES)
    assert not target.env_agrees(values)
    result = target.write_env(values)
    assert result == f"{len(values)} settings written"
    assert SECRET not in result
    assert target.env_agrees(values)
    assert stat.S_IMODE(shop.env_file.stat().st_mode) == 0o600
    # The file's other lines and its comments are unchanged.
    text = shop.env_file.read_text()
    assert "export SHOP_NAME=Shop # shown on every page" in text
    assert "#OPENEDX_IP=172.22.0.1" in text
    assert "OPENEDX_SOCIAL_LOGIN_PATH=/auth/login/ol-oauth2/?auth_entry=login\n" in text
    # So are all other files of the checkout.
    changed = {name for name, data in shop.tree().items() if files.get(name) != data}
    assert changed == {".env"}
    assert not target.is_env_restored(values)
    assert target.restore_env(values) == "restored"
    assert shop.env_file.read_bytes() == original
    assert target.is_env_restored(values)


def test_restoring_the_env_keeps_lines_that_were_added_after_connecting(shop: PlainCheckout):
    target = target_of(shop)
    values = target.env_values(description(application(shop.url)), ADDRESSES)
    target.write_env(values)
    shop.env_file.write_text(shop.env_file.read_text() + "LATER=1\n")
    target.restore_env(values)
    text = shop.env_file.read_text()
    assert "LATER=1" in text
    assert "LOGOUT_REDIRECT_URL=\n" in text  # empty, as in the earlier file
    assert "OPENEDX_API_BASE_URL" not in text


def test_restoring_the_env_removes_example_values_unless_somebody_replaced_them(
    shop: PlainCheckout,
):
    shop.env_file.write_text(shop.env_file.read_text() + "MAIL_KEY=\n")
    original = shop.env_file.read_bytes()
    target = target_of(shop)
    target.new_example_values = {"MAIL_KEY": "no-key-yet", "MAIL_DOMAIN": "mail.example.org"}
    values = target.env_values(description(application(shop.url)), ADDRESSES)
    target.write_env(values | target.new_example_values)

    # A later connect, which knows of no example values, doesn't prevent their removal.
    later_target = target_of(shop)
    later_target.write_env(values)
    assert later_target.restore_env(values) == "restored"
    assert shop.env_file.read_bytes() == original
    assert later_target.is_env_restored(values)

    # The operator replaces one of the two example values.
    later_target.new_example_values = target.new_example_values
    later_target.write_env(values | later_target.new_example_values)
    shop.env_file.write_text(shop.env_file.read_text().replace("mail.example.org", "mail.mit.edu"))
    result = later_target.restore_env(values)
    assert result == "restored, except for MAIL_DOMAIN: changed after connect"
    assert shop.env_file.read_text() == original.decode() + "MAIL_DOMAIN=mail.mit.edu\n"


def test_example_values_are_left_to_the_operator_until_they_are_replaced(shop: PlainCheckout):
    """A later connect finds the example values in the ``.env`` and lists them again."""
    target = target_of(shop)
    target.examine(application=None, addresses=ADDRESSES)
    target.write_env({"MAIL_KEY": "no-key-yet", "MAIL_DOMAIN": "mail.example.org"})
    target.saved_state.save_examples({"MAIL_KEY": "no-key-yet", "MAIL_DOMAIN": "mail.example.org"})

    later_target = target_of(shop)
    later_target.examine(application=None, addresses=ADDRESSES)
    (sentence,) = manual._left_to_operator(later_target, changed_ids=[], started_command="")
    assert sentence.startswith("give MAIL_KEY, MAIL_DOMAIN in ")

    shop.env_file.write_text(shop.env_file.read_text().replace("no-key-yet", "key-of-mine"))
    (sentence,) = manual._left_to_operator(later_target, changed_ids=[], started_command="")
    assert sentence.startswith("give MAIL_DOMAIN in ")


def test_restoring_deletes_an_env_that_connect_created(shop: PlainCheckout):
    target = target_of(shop)
    values = target.env_values(description(application(shop.url)), ADDRESSES)
    shop.env_file.unlink()
    target.write_env(values)
    assert target.env_agrees(values)
    target.restore_env(values)
    assert not shop.env_file.exists()
    assert target.is_env_restored(values)
    shop.env_file.touch()  # the fixture's ``docker compose down`` needs the file


def test_restoring_keeps_a_symbolic_link_to_an_env_that_connect_created(shop: PlainCheckout):
    target = target_of(shop)
    values = target.env_values(description(application(shop.url)), ADDRESSES)
    shop.env_file.unlink()
    real_file = shop.folder / "elsewhere.env"
    shop.env_file.symlink_to(real_file)
    target.write_env(values)
    assert real_file.is_file()
    target.restore_env(values)
    assert shop.env_file.is_symlink()
    assert not real_file.exists()
    assert target.is_env_restored(values)
    shop.env_file.touch()  # the fixture's ``docker compose down`` needs the file


def test_new_settings_take_effect_only_in_recreated_containers(shop: PlainCheckout):
    shop.up()
    target = target_of(shop)
    values = target.env_values(description(application(shop.url)), ADDRESSES)
    target.write_env(values)
    assert not target.runs_with(values)
    shop.docker("compose", "restart")
    assert not target.runs_with(values)
    target.recreate()
    assert target.runs_with(values)
    target.examine(application=None, addresses=ADDRESSES)
    assert target.facts["settings"]["OPENEDX_SERVICE_WORKER_USERNAME"] == "worker"


def test_errors_of_failing_commands_contain_no_secrets(shop: PlainCheckout):
    secrets = Secrets()
    secrets.add([SECRET])
    options = ApplicationOptions(str(shop.folder))
    target = TargetApplication(recognise(options), options, secrets)
    with pytest.raises(ToolFailed, match=r"Unknown command: '\(hidden\)'") as failure:
        target.manage.run_command(SECRET)
    assert SECRET not in str(failure.value)


# -- an application built on Usher, run in a virtualenv


@pytest.fixture
def campus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TargetApplication:
    """The reference application with its own database."""
    monkeypatch.setenv("USHER_STATE_HOME", str(tmp_path / "state"))
    env_file = tmp_path / "campus.env"
    for key, value in {
        "CAMPUS_ENV_FILE": str(env_file),
        "CAMPUS_HOME": str(tmp_path / "home"),
        "SITE_BASE_URL": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(key, value)
    folder = Path(__file__).parents[2] / "campus"
    manage = f"{sys.executable} manage.py"
    options = ApplicationOptions(
        str(folder), env_file=str(env_file), manage=manage, edition="mitxpro"
    )
    (tmp_path / "home").mkdir()
    copy_migrated(folder, tmp_path / "home" / "campus.sqlite3")
    return TargetApplication(recognise(options), options, Secrets())


def test_an_application_built_on_usher_is_recognised_and_exempts_the_lms_from_pkce(
    campus: TargetApplication,
):
    campus.examine(application=None, addresses=ADDRESSES)
    assert campus.facts["usher"]
    entry = campus.make_entry(BackendChoice(name="mitxpro-oauth2", known_backend="mitxpro-oauth2"))
    assert (entry["name"], entry["usher"]) == ("mitxpro", True)
    campus.check_backend("mitxpro-oauth2")
    # The LMS's record is created with an exemption, because no known backend sends PKCE.
    application_entry = application(campus.url, name="mitxpro", webhook_secret="w" * 40)
    assert campus.write_record(application_entry, ADDRESSES) == "created, PKCE made optional for it"
    # python-social-auth adds redirect_state to the registered address.
    redirect_uri = "http://lms.example:8000/auth/complete/ol-oauth2/?redirect_state=x"
    result = campus.examine_again(application_entry, ADDRESSES, redirect_uri)
    assert result["agrees"]
    assert result["accepts"]
    assert not result["pkce_required"]
    # The settings of an application built on Usher, and of MIT xPro, are in force.
    values = campus.env_values(description(application_entry), ADDRESSES)
    campus.write_env(values)
    assert values["USHER_WEBHOOK_SECRET"] == "w" * 40
    assert values["MITXPRO_REGISTRATION_ACCESS_TOKEN"] == values["OPENEDX_SERVICE_WORKER_API_TOKEN"]
    result = campus.examine_again(application_entry, ADDRESSES, redirect_uri)
    assert result["settings"] == {key: values[key] for key in SETTINGS}
    assert campus.remove_record(application_entry.client_id) == "removed"


# -- a remote application: only its address is known


def test_a_remote_application_gets_files_with_its_commands(shop: PlainCheckout):
    """After the application's operator has run one file and added the other file to the
    application's settings, the application agrees with the connection."""
    shop.up()
    options = ApplicationOptions(shop.url, name="shop")
    remote = RemoteApplication(recognise(options), options, Secrets())
    application_entry = application(shop.url)
    remote.examine(application=None, addresses=ADDRESSES)
    assert not remote.record_agrees(application_entry, ADDRESSES)
    assert not remote.has_record(application_entry)
    with pytest.raises(NeedsPerson, match=r"\./manage\.py shell < (\S+)") as refusal:
        remote.write_record(application_entry, ADDRESSES)
    script = Path(re.search(r"shell < (\S+)", str(refusal.value))[1])
    assert stat.S_IMODE(script.stat().st_mode) == 0o600
    assert SECRET not in str(refusal.value)
    # The application's operator runs the script.
    shop.manage("shell", stdin=script.read_text())
    assert remote.record_agrees(application_entry, ADDRESSES)
    assert remote.has_record(application_entry), "disconnecting must write a script that removes it"
    # The settings are written to a file, which the application's operator adds to its settings.
    remote.write_env_to_hand_over(description(application_entry), ADDRESSES)
    assert remote.env_is_written(description(application_entry), ADDRESSES)
    assert stat.S_IMODE(remote.hand_over_env.stat().st_mode) == 0o600


def test_a_remote_application_that_does_not_answer_is_refused():
    options = ApplicationOptions("http://127.0.0.1:9")
    with pytest.raises(Refused, match=r"127\.0\.0\.1:9 can't be reached"):
        RemoteApplication(recognise(options), options, Secrets()).examine(
            application=None, addresses=ADDRESSES
        )


def test_a_manual_edit_of_the_env_requires_a_new_container(shop: PlainCheckout):
    """The edited line is not a setting of Usher."""
    shop.up()
    target = target_of(shop)
    assert target.runs_with({})
    text = shop.env_file.read_text()
    shop.env_file.write_text(text.replace("MAILGUN_KEY=", "MAILGUN_KEY=by-hand"))
    assert not target.runs_with({})
    target.recreate()
    assert target.runs_with({})


def test_every_call_of_docker_compose_has_the_options_of_manage(shop: PlainCheckout):
    """Docker compose may need these options to read the compose file."""
    env_file = shop.folder.parent / "compose.env"
    env_file.write_text("")
    manage = f"docker compose --env-file {env_file} run --rm -T web ./manage.py"
    target = target_of(shop, manage=manage)
    assert not target.runs_with({})  # nothing is running yet
    target.recreate()
    assert target.runs_with({})
    (log,) = shop.state.glob("*/calls.log")
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    # The first word of a call is "compose"; the options of manage must follow.
    compose_options = [call[1:3] for call in calls if {"up", "ps", "config", "exec"} & set(call)]
    assert compose_options
    assert all(words == ["--env-file", str(env_file)] for words in compose_options)
    env_file.unlink()
    with pytest.raises(ToolFailed, match="couldn't find env file"):
        target.runs_with({})  # an error does not mean that nothing runs
    # The service's name is found behind the options.
    with_exec = f"docker compose --env-file {env_file} exec -T app python campus/manage.py"
    assert target_of(shop, manage=with_exec).manage.service == "app"
