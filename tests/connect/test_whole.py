"""``usher connect`` makes learners' sign-in work, and ``usher disconnect`` undoes everything. Each
test uses another release of Tutor and another mode."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.connect.machine import PASSWORD, Machine, oauth_clients, options_for
from tests.support.checkout import VENV_BIN, PlainCheckout
from usher.contract import exits
from usher.contract.envfile import EnvFile

pytestmark = pytest.mark.slow

#: The ids of steps that every first connection of the shop applies.
STEPS = (
    "tutor-config",
    "tutor-plugin",
    "record:shop",
    "provision",
    "env:shop",
    "recreate:shop",
    "restart",
)
#: The ids of all checks.
CHECKS = {
    "lms-answers",
    "application-answers",
    "sign-in-start",
    "application-client",
    "service-worker",
    "lms-client",
    "from-the-lms",
    "redirect-uri",
    "from-the-application",
    "settings-in-force",
    "sign-in-page",
    "learner",
    "sync",
    "repair",
}


@pytest.fixture
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The machine with the release and mode in the test's mark ``machine``. Everything that runs
    on it is stopped after the test."""
    mark = request.node.get_closest_marker("machine")
    machine = Machine(tmp_path, *mark.args, **mark.kwargs)
    yield machine
    machine.stop()


@pytest.fixture
def shop(machine: Machine, shop_database: Path) -> PlainCheckout:
    return machine.add_checkout("shop", shop_database, learner="ada")


@pytest.mark.machine(release=22, mode="local", usher_in_tutor=False)
def test_connect_and_disconnect_in_local_mode(machine: Machine, shop: PlainCheckout):
    earlier_facts = machine.facts()
    original_files = shop.tree()
    shop.make_learner("boss", PASSWORD, is_superuser=True, is_staff=True)

    # A dry run changes nothing.
    dry_run = machine.connect(shop, "--dry-run")
    due = {change["id"] for change in dry_run["plan"]["changes"] if change["due"]}
    assert due >= {"tutor-package", *STEPS}
    assert machine.facts() == earlier_facts

    # Connect passes all checks, and changes only the .env in the checkout.
    result = machine.connect(shop, "--superuser")
    assert result["ok"]
    assert result["changed"][0] == "tutor-package"
    outcomes = {check["id"]: check["outcome"] for check in result["checks"]}
    assert outcomes == dict.fromkeys(CHECKS, "ok")
    changed_files = [name for name, data in shop.tree().items() if original_files.get(name) != data]
    assert changed_files == [".env"]

    # ada has an LMS account, from the application's repair command; grace is new.
    assert_learner_can_sign_in(machine, shop, "ada")
    shop.make_learner("grace", PASSWORD)
    assert_learner_can_sign_in(machine, shop, "grace")
    assert_learner_can_sign_in(machine, shop, "boss", page="/admin/")

    assert_secrets_are_protected(machine)
    # Connecting again changes nothing.
    connected_facts = machine.facts()
    machine.root.run("config", "save")  # as an operator may do at any time
    second = machine.connect(shop)
    assert second["ok"]
    assert second["changed"] == []
    assert machine.facts() == connected_facts

    # The connection is recorded for other commands, without secrets.
    (connection,) = saved_connections(machine)
    assert connection["application"] == str(shop.folder)
    assert connection["tutor_root"] == str(machine.root.path)
    assert connection["verified"] >= connection["connected"] > ""
    assert_no_secret_in(json.dumps(connection), machine)
    output = machine.run([str(VENV_BIN / "usher"), "status"]).stdout
    assert f"{shop.folder} at {shop.url}" in " ".join(output.split())

    # If no option names Tutor, disconnect uses the Tutor that is recorded for the connection.
    output = machine.run([str(VENV_BIN / "usher"), "disconnect", "--yes", "--json"]).stdout
    result = json.loads(output)
    assert result["ok"]
    assert saved_connections(machine) == []
    assert [shop.env_file.read_text()] == earlier_facts["env"]
    assert oauth_clients(shop) == []
    assert not lms_signs_in_through(machine, shop)
    assert "usher" not in machine.root.config()["PLUGINS"]
    assert not machine.root.lms_config.with_name("usher.json").exists()
    assert any("connect again" in sentence for sentence in result["stays"])
    tutor = ("--tutor", str(machine.tutor), "--tutor-root", str(machine.root.path))
    output = machine.run([str(VENV_BIN / "usher"), "disconnect", "--purge", "--yes", *tutor]).stdout
    assert "config.yml still has Usher's settings" in " ".join(output.split())

    assert machine.connect(shop, "--no-prove")["ok"]
    # Connecting again uses the same client ids.
    clients = "clients_in_applications"
    assert machine.facts()[clients] == connected_facts[clients]


def assert_learner_can_sign_in(
    machine: Machine,
    checkout: PlainCheckout,
    learner: str,
    backend: str = "mitxpro-oauth2",
    page: str = "/dashboard",
) -> None:
    """Asserts that a learner who opens this page of the LMS signs in at the application and then
    gets the page."""
    answer = machine.sign_in(checkout, learner, backend, target=page)
    assert (answer.status_code, str(answer.url)) == (200, f"{machine.lms}{page}")


def saved_connections(machine: Machine) -> list[dict[str, str]]:
    result = machine.run([str(VENV_BIN / "usher"), "status", "--json"])
    return json.loads(result.stdout)["connections"]


def assert_no_secret_in(text: str, machine: Machine) -> None:
    assert not [secret for secret in secrets_of(machine) if secret in text]


def lms_signs_in_through(machine: Machine, checkout: PlainCheckout) -> bool:
    """Whether the LMS sends browsers to the application to sign in."""
    with machine.browser() as browser:
        answer = browser.get(f"{machine.lms}/auth/login/mitxpro-oauth2/")
    return str(answer.url).startswith(checkout.url)


def secrets_of(machine: Machine) -> list[str]:
    """The secrets that the plugin has generated for the connection."""
    description = machine.root.description()
    assert description.service_worker
    secrets = [description.service_worker.token, str(machine.root.config()["USHER_SECRET"])]
    for application in description.applications:
        secrets += [application.client_secret, application.oauth_client_secret]
    return secrets


def assert_secrets_are_protected(machine: Machine) -> None:
    """Asserts that secrets are neither in arguments of processes, which every user can see, nor in
    files that other users can read."""
    calls = [file.read_text() for file in machine.state.rglob("calls.log")]
    calls += [" ".join(call) for call in machine.engine.calls()]
    assert calls
    for secret in secrets_of(machine):
        for call in calls:
            assert secret not in call
    for file in (machine.state / "usher").rglob("*"):
        assert file.stat().st_mode & 0o077 == 0, file


@pytest.mark.machine(release=22, mode="dev")
def test_a_dry_run_starts_and_builds_nothing(machine: Machine, shop: PlainCheckout):
    """A dry run does not even start a job to examine the LMS, because a job starts databases that
    keep running, and builds a missing image."""
    # Docker has no image at all.
    (machine.engine.home / "missing-images.json").write_text('["*"]')
    # Connect ends unfinished, because the operator must build the image first.
    unfinished = machine.connect(shop, "--no-prove", code=exits.UNFINISHED)
    assert "images build openedx-dev" in unfinished["error"]
    assert "tutor-plugin" in unfinished["changed"]
    for _ in range(2):  # the first must leave nothing for the second
        dry_run = machine.connect(shop, "--dry-run")
        due = {change["id"] for change in dry_run["plan"]["changes"] if change["due"]}
        assert {"image", "provision"} <= due
        assert any("can't be examined yet" in warning for warning in dry_run["plan"]["warnings"])
    words_that_start_or_build = {"run", "up", "start", "build", "buildx", "built", "exec"}
    for call in machine.engine.calls():
        assert not words_that_start_or_build & set(call), call
    assert not (machine.engine.home / "running.json").exists()  # no container was started


@pytest.mark.machine(release=21, mode="local")
def test_containers_that_a_job_left_are_not_a_running_platform(
    machine: Machine, shop: PlainCheckout
):
    job = ["local", "do", "print-edx-platform-setting", "SITE_ID"]
    machine.run([str(machine.tutor), "--root", str(machine.root.path), *job])
    assert json.loads((machine.engine.home / "running.json").read_text()) == ["tutor_local"]
    # Connect starts the LMS and its proxy, so a second plan has nothing to do.
    assert machine.connect(shop, "--no-prove")["ok"]
    result = machine.connect(shop, "--no-prove", "--dry-run")
    assert [change["id"] for change in result["plan"]["changes"] if change["due"]] == []


@pytest.mark.machine(release=20, mode="dev")
def test_connect_killed_at_every_step_ends_in_the_same_state(machine: Machine, shop: PlainCheckout):
    earlier_facts = machine.facts()
    for step in STEPS:
        assert machine.kill_during(step, "connect", *options_for(shop), "--no-prove"), step
    assert machine.connect(shop)["ok"]
    assert_learner_can_sign_in(machine, shop, "ada")
    facts = machine.facts()
    assert len(facts["providers_in_lms"]) == 1
    (clients_of_shop,) = facts["clients_in_applications"]
    assert len(clients_of_shop) == 1
    assert [entry["name"] for entry in facts["config"]["USHER_APPLICATIONS"]] == ["shop"]

    for step in ("lms-records", "tutor-config", "restart", "env:shop", "tutor-files"):
        assert machine.kill_during(step, "disconnect", "--purge"), step
    assert machine.usher("disconnect", "--purge")["ok"]
    assert machine.facts() == earlier_facts
    assert list((machine.state / "usher").iterdir()) == []


@pytest.mark.machine(release=22, mode="nightly")
def test_one_of_two_applications_on_an_lms_can_be_disconnected(
    machine: Machine, shop: PlainCheckout, shop_database: Path
):
    store = machine.add_checkout("store", shop_database, learner="lise")
    result = machine.usher("connect", *options_for(shop), *options_for(store))
    assert result["ok"]
    assert_learner_can_sign_in(machine, shop, "ada")
    assert_learner_can_sign_in(machine, store, "lise", backend="store-oauth2")
    assert_separate_service_workers(machine, shop, store)

    # Disconnecting must also change these settings, because they may not name an unknown
    # application.
    machine.root.configure(USHER_DEFAULT_APPLICATION="shop", USHER_SUPERUSER_APPLICATION="shop")
    assert machine.usher("disconnect", "--application", str(shop.folder))["ok"]
    assert_learner_can_sign_in(machine, store, "lise", backend="store-oauth2")
    assert service_worker_username(machine, store) == "store_serviceworker"
    assert oauth_clients(shop) == []
    assert len(oauth_clients(store)) == 1
    assert not lms_signs_in_through(machine, shop)


def assert_separate_service_workers(machine: Machine, *checkouts: PlainCheckout) -> None:
    """Asserts that each worker's token belongs to its application's OAuth client, so that the token
    gives no access to learners of the other application."""
    clients = [
        application.oauth_client_id for application in machine.root.description().applications
    ]
    for checkout, own_client in zip(checkouts, clients, strict=True):
        token = EnvFile.read(checkout.env_file).values()["OPENEDX_SERVICE_WORKER_API_TOKEN"]
        with machine.browser() as browser:
            headers = {"Authorization": f"Bearer {token}"}
            for client in clients:
                answer = browser.get(
                    f"{machine.lms}/usher/api/v1/accounts/",
                    params={"client_id": client},
                    headers=headers,
                )
                assert answer.status_code == (200 if client == own_client else 400)
    assert [service_worker_username(machine, checkout) for checkout in checkouts] == [
        "mit_Application_serviceworker",
        "store_serviceworker",
    ]


def service_worker_username(machine: Machine, checkout: PlainCheckout) -> str:
    """The LMS user to whom the application's service worker token belongs."""
    values = EnvFile.read(checkout.env_file).values()
    headers = {"Authorization": f"Bearer {values['OPENEDX_SERVICE_WORKER_API_TOKEN']}"}
    with machine.browser() as browser:
        username = browser.get(f"{machine.lms}/api/user/v1/me", headers=headers).json()["username"]
    assert username == values["OPENEDX_SERVICE_WORKER_USERNAME"]
    return str(username)


@pytest.mark.machine(release=21, mode="k8s")
def test_connect_and_disconnect_in_a_cluster(machine: Machine, shop: PlainCheckout):
    earlier_facts = machine.facts()

    result = machine.connect(shop)
    assert result["ok"]
    # The provisioning job mounts the configuration that was applied last, so the rendered
    # configuration must be applied first.
    steps = ("apply", "provision", "env:shop")
    assert [step for step in result["changed"] if step in steps] == list(steps)
    assert "OPENEDX_IP" not in shop.env_file.read_text().replace("#OPENEDX_IP", "")
    assert_learner_can_sign_in(machine, shop, "ada")
    assert_secrets_are_protected(machine)
    second = machine.connect(shop)
    assert (second["ok"], second["changed"]) == (True, [])

    assert machine.kill_during("lms-records", "disconnect", "--purge")
    assert machine.usher("disconnect", "--purge")["ok"]
    assert not lms_signs_in_through(machine, shop)
    assert machine.facts() == earlier_facts
