"""``usher connect`` before its requirements are met."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.connect.machine import Machine, options_for
from tests.support.checkout import PlainCheckout
from usher.contract import exits

pytestmark = [pytest.mark.xdist_group("connect-command"), pytest.mark.slow]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The machine of all tests of this file, with an image of the LMS that has no Usher."""
    machine = Machine(tmp_path_factory.mktemp("machine"), usher_in_image=False)
    yield machine
    machine.stop()


@pytest.fixture(scope="module")
def shop(machine: Machine, shop_database: Path) -> PlainCheckout:
    return machine.add_checkout("shop", shop_database, learner="ada")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no application named"),
        (("--application", "/no/such/folder"), "neither a folder nor an http address"),
        (("--application", "http://127.0.0.1:9"), "127.0.0.1:9 can't be reached"),
        (("--application", ".", "--name", "a", "--name", "b"), "--name is given more often"),
        (("--application", ".", "--tutor-root", "/"), "holds no config.yml"),
        (("--application", ".", "--tutor", "/no/tutor"), "is not a program"),
        (("--application", ".", "--mode", "nightly"), "needs Tutor Main"),
    ],
)
def test_a_refused_connect_names_the_reason_and_changes_nothing(
    machine: Machine, shop: PlainCheckout, arguments, message
):
    earlier_facts = machine.facts()
    answer = machine.usher("connect", *arguments, code=exits.NOT_RUN)
    assert message in answer["error"]
    assert answer["error"].endswith("Nothing was changed.")
    assert (answer["ok"], answer["changed"]) == (False, [])
    assert machine.facts() == earlier_facts
    assert not (machine.state / "usher").exists()


def test_without_a_terminal_connect_requires_yes(machine: Machine, shop: PlainCheckout):
    argv = [word for word in machine.argv("connect", *options_for(shop)) if word != "--yes"]
    result = machine.run(argv)
    assert result.returncode == exits.NOT_RUN
    assert "give --yes to apply" in result.stderr
    assert "name shop in USHER_APPLICATIONS" in " ".join(result.stdout.split())


def test_an_image_without_usher_stops_connect_until_it_is_built(
    machine: Machine, shop: PlainCheckout
):
    answer = machine.connect(shop, code=exits.UNFINISHED)
    assert "Left to you: the LMS's image has no Usher yet" in answer["error"]
    assert f"tutor --root {machine.root.path} images build openedx" in answer["error"]
    # The steps that switch sign-in over were not applied.
    assert answer["changed"] == ["tutor-config", "tutor-plugin", "record:shop"]
    assert "OPENEDX_API_CLIENT_SECRET" not in shop.env_file.read_text()
    assert machine.connect(shop, code=exits.UNFINISHED)["changed"] == []
    # The operator is asked, and sees the output of the build.
    arguments = ("connect", *options_for(shop), "--no-prove")
    code, screen = machine.converse({"Apply these changes?": "y", "Build it now?": "n"}, *arguments)
    assert code == exits.UNFINISHED, screen
    assert "Left to you" in screen
    code, screen = machine.converse({"Apply these changes?": "y", "Build it now?": "y"}, *arguments)
    assert code == 0, screen
    assert "docker buildx build" in screen


def test_connect_in_a_cluster_tells_the_operator_to_push_the_built_image(
    machine: Machine, shop: PlainCheckout
):
    machine.set_image(usher=False)
    machine.start_api_server()
    answer = machine.connect(shop, "--mode", "k8s", "--build", code=exits.UNFINISHED)
    assert "images push openedx" in answer["error"]
    assert "k8s reboot" in answer["error"]


def test_templates_in_the_answers_of_an_application_are_refused_and_not_executed(
    machine: Machine, shop: PlainCheckout
):
    """Tutor renders its configuration as templates, so an answer that contains a template must not
    be written to the configuration."""
    attack_file = machine.home / "ATTACKED"
    attack = f"{{{{ cycler.__init__.__globals__.os.popen('touch {attack_file}').read() }}}}"
    config = machine.root.config()
    original_env = shop.env_file.read_text()
    # Addresses of the application; the last has no template, but a password.
    for address in (f"http://x{attack}", f"http://x.org/{attack}", "http://u:p@x.org"):
        line = f"SHOP_BASE_URL={shop.url}"
        assert line in original_env
        shop.env_file.write_text(original_env.replace(line, f'SHOP_BASE_URL="{address}"'))
        result = machine.run([*machine.argv("connect", *options_for(shop))])
        assert result.returncode == exits.NOT_RUN, result.stdout + result.stderr
        assert "root_url is" in result.stderr
        assert "Nothing was changed" in result.stderr
    shop.env_file.write_text(original_env)
    # The superuser's username.
    shop.make_learner(attack, "password", is_superuser=True)
    result = machine.run([*machine.argv("connect", *options_for(shop)), "--superuser"])
    assert result.returncode == exits.NOT_RUN
    assert "USHER_SUPERUSER_USERNAME is" in result.stderr
    assert machine.root.config() == config
    assert not attack_file.exists()
