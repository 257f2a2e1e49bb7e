"""``usher connect`` before its requirements are met."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.connect.machine import Machine, of
from tests.support.checkout import PlainCheckout

pytestmark = [pytest.mark.xdist_group("connect-command"), pytest.mark.slow]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("machine"), usher_in_image=False)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def shop(machine: Machine, shop_database: Path) -> PlainCheckout:
    return machine.checkout("shop", shop_database, "ada")


@pytest.mark.parametrize(
    ("arguments", "says"),
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
def test_a_refusal_says_why_and_changes_nothing(
    machine: Machine, shop: PlainCheckout, arguments, says, monkeypatch
):
    before = machine.facts()
    answer = machine.usher("connect", *arguments, code=2)
    assert says in answer["error"]
    assert answer["error"].endswith("Nothing was changed.")
    assert (answer["ok"], answer["changed"]) == (False, [])
    assert machine.facts() == before
    assert not (machine.state / "usher").exists()


def test_without_a_terminal_connect_requires_yes(machine: Machine, shop: PlainCheckout):
    argv = [word for word in machine.argv("connect", *of(shop)) if word != "--yes"]
    result = machine.run(argv)
    assert result.returncode == 2
    assert "give --yes to apply" in result.stderr
    assert "name shop in USHER_APPLICATIONS" in " ".join(result.stdout.split())


def test_an_image_without_usher_stops_connect_until_it_is_built(
    machine: Machine, shop: PlainCheckout
):
    answer = machine.connect(shop, code=3)
    assert "Remains for you: the LMS's image has no Usher yet" in answer["error"]
    assert f"tutor --root {machine.root.path} images build openedx" in answer["error"]
    # No change was made that would break sign-in.
    assert answer["changed"] == ["tutor-config", "tutor-plugin", "record:shop"]
    assert not shop.env_file.read_text().count("OPENEDX_API_CLIENT_SECRET")
    assert machine.connect(shop, code=3)["changed"] == []
    # The operator is asked, and sees the output of the build.
    words = ("connect", *of(shop), "--no-prove")
    code, screen = machine.converse({"Apply these changes?": "y", "Build it now?": "n"}, *words)
    assert (code, "Remains for you" in screen) == (3, True), screen
    code, screen = machine.converse({"Apply these changes?": "y", "Build it now?": "y"}, *words)
    assert code == 0, screen
    assert "docker buildx build" in screen


def test_the_image_of_a_cluster_comes_from_a_registry(machine: Machine, shop: PlainCheckout):
    machine.set_image(usher=False)
    machine.make_cluster()
    answer = machine.connect(shop, "--mode", "k8s", "--build", code=3)
    assert "images push openedx" in answer["error"]
    assert "k8s reboot" in answer["error"]


@pytest.mark.machine(22, "local")
def test_an_application_s_answers_run_nothing_on_this_machine(
    machine: Machine, shop: PlainCheckout
):
    """Tutor renders its configuration as templates, so an answer that contains a template must not
    be written to the configuration."""
    mark = machine.home / "MARK"
    attack = f"{{{{ cycler.__init__.__globals__.os.popen('touch {mark}').read() }}}}"
    config = machine.root.config()
    plain = shop.env_file.read_text()
    for address in (f"http://x{attack}", f"http://x.org/{attack}", "http://u:p@x.org"):
        line = f"SHOP_BASE_URL={shop.url}"
        assert line in plain
        shop.env_file.write_text(plain.replace(line, f'SHOP_BASE_URL="{address}"'))
        result = machine.run([*machine.argv("connect", *of(shop))])
        assert result.returncode == 2, result.stdout + result.stderr
        assert "root_url is" in result.stderr
        assert "Nothing was changed" in result.stderr
    shop.env_file.write_text(plain)
    shop.make_learner(attack, "password", is_superuser=True)
    result = machine.run([*machine.argv("connect", *of(shop)), "--superuser"])
    assert result.returncode == 2
    assert "USHER_SUPERUSER_USERNAME is" in result.stderr
    assert machine.root.config() == config
    assert not mark.exists()
