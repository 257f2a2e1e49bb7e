"""Tutor, its root and its mode are found with real Tutor, or refused if they are ambiguous."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.docker import ContainerEngine
from tests.support.tutor import RELEASES, TutorRoot, tutor_executable
from usher.connect.errors import Refused
from usher.connect.openedx import configuration, instance, leftovers
from usher.connect.process import Runner
from usher.contract.secret_values import Secrets

#: The plugins of a root without Usher.
PLAIN = ("mfe",)
NEWEST = RELEASES[-1]
#: The id of the unprivileged user ``nobody``.
NOBODY = 65534


@pytest.fixture
def runner() -> Runner:
    return Runner(Secrets())


@pytest.fixture(autouse=True)
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ContainerEngine:
    """Puts a stand-in for docker on PATH, and hides all Tutor roots except the test's."""
    engine = ContainerEngine.make(tmp_path / "engine")
    for key, value in engine.environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("TUTOR_PLUGINS_ROOT", str(tmp_path / "plugins"))
    monkeypatch.delenv("TUTOR_ROOT", raising=False)
    monkeypatch.setenv("PATH", os.pathsep.join([str(engine.bin), "/usr/bin", "/bin"]))
    return engine


@pytest.fixture(scope="session")
def plain_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Tutor root without Usher, which tests copy."""
    return TutorRoot.make(NEWEST, tmp_path_factory.mktemp("plain"), plugins=PLAIN).path


@pytest.fixture
def root(tmp_path: Path, plain_root: Path) -> Path:
    """The test's own Tutor root, without Usher."""
    return Path(shutil.copytree(plain_root, tmp_path / "root"))


# -- Tutor


def test_the_refusal_without_tutor_says_what_to_install():
    # PATH has no tutor: the fixture ``engine``, which every test uses, has set it.
    with pytest.raises(
        Refused, match=r"(?s)There is no tutor on PATH.*pip install.*--lms embedded.*usher dev"
    ):
        instance.find_tutor(option="")


def test_the_binary_of_tutor_is_refused_because_it_can_have_no_plugins(tmp_path: Path):
    (tmp_path / "tutor").write_bytes(b"\x7fELF")
    (tmp_path / "tutor").chmod(0o755)
    with pytest.raises(Refused, match="binary, which can't have plugins"):
        instance.find_tutor(str(tmp_path / "tutor"))


def test_a_symbolic_link_to_tutor_leads_to_the_python_of_tutor(tmp_path: Path):
    tutor = tutor_executable(NEWEST)
    (tmp_path / "tutor").symlink_to(tutor)
    _, python = instance.find_tutor(str(tmp_path / "tutor"))
    assert python.samefile(tutor.with_name("python"))


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("19.0.9", "not supported"),
        ("20.0.0", ""),
        ("22.1.3", ""),
        ("23.0.0", "not supported"),
        ("23.0.0-main", "Usher was tested with"),  # accepted, with a warning
        ("rubbish", "not supported"),
    ],
)
def test_supported_versions_of_tutor_are_accepted_and_others_refused(version, message):
    try:
        result = instance.check_version(version)
    except Refused as refusal:
        result = str(refusal)
    assert message in result
    assert bool(message) == bool(result)


@pytest.mark.parametrize("release", RELEASES)
def test_the_report_of_each_release_of_tutor_names_plugins_and_stale_files(
    release, tmp_path: Path, runner: Runner
):
    """A file that was edited by hand is reported as stale. Tutor is examined with its own
    Python."""
    root = TutorRoot.make(release, tmp_path / "root", plugins=("mfe", "usher"))
    root.run("config", "save")
    _, python = instance.find_tutor(str(tutor_executable(release)))
    modification_times = {path: path.stat().st_mtime_ns for path in root.path.rglob("*")}
    report = instance.inspect_root(python, root.path, runner)
    assert report["version"].startswith(f"{release}.")
    assert report["enabled"] == ["mfe", "usher"]
    assert report["stale"] == []
    text = root.lms_config.read_text()
    root.lms_config.write_text(f"SKIP_EMAIL_VALIDATION_BY_HAND: true\n{text}")
    report = instance.inspect_root(python, root.path, runner)
    assert report["stale"] == ["apps/openedx/config/lms.env.yml"]
    # Examining changed nothing.
    modification_times.pop(root.lms_config)
    for path, modification_time in modification_times.items():
        assert path.stat().st_mtime_ns == modification_time, path


# -- the root


def test_the_named_root_is_used(root: Path, runner: Runner):
    assert instance.find_root(str(root), tutor_executable(NEWEST), runner) == root


def test_the_root_in_the_variable_tutor_root_is_used(root: Path, runner: Runner, monkeypatch):
    monkeypatch.setenv("TUTOR_ROOT", str(root))
    assert instance.find_root(option="", tutor=tutor_executable(NEWEST), runner=runner) == root


def test_without_an_option_only_tutors_default_root_is_used_and_only_if_it_is_the_only_one(
    tmp_path: Path, plain_root: Path, runner: Runner
):
    tutor = tutor_executable(NEWEST)
    with pytest.raises(Refused, match=r"holds no config.yml.*tutor local launch"):
        instance.find_root(option="", tutor=tutor, runner=runner)
    shutil.copytree(plain_root, tmp_path / "data/tutor-main")
    with pytest.raises(Refused, match=r"data/tutor, .*another root.*--tutor-root .*tutor-main"):
        instance.find_root(option="", tutor=tutor, runner=runner)
    shutil.copytree(plain_root, tmp_path / "data/tutor")
    with pytest.raises(Refused, match=r"2 Tutor roots(?s:.*)--tutor-root .*tutor-main"):
        instance.find_root(option="", tutor=tutor, runner=runner)
    shutil.rmtree(tmp_path / "data/tutor-main")
    assert instance.find_root(option="", tutor=tutor, runner=runner) == tmp_path / "data/tutor"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("LMS_HOST: x\nMOUNTS:\n\t- a\n", "config.yml, line 3: a tab"),
        ("LMS_HOST: 'x\nB: 1\n", "config.yml, line 3: not YAML"),
        ("- a\n", "config.yml, line 1: not a list of settings"),
    ],
)
def test_a_broken_config_is_refused_with_the_line_of_the_error(
    root: Path, runner: Runner, text, message
):
    (root / "config.yml").write_text(text)
    with pytest.raises(Refused, match=message):
        instance.find_root(str(root), tutor_executable(NEWEST), runner)
    assert (root / "config.yml").read_text() == text


def test_a_root_that_cant_be_written_is_refused(plain_root: Path):
    """The check runs as an unprivileged user if the tests run as root, because root may write
    everywhere."""
    script = (
        "import os; from pathlib import Path; from usher.connect.openedx import instance;"
        f"os.geteuid() or os.setuid({NOBODY});"
        "instance._require_usable_root(Path(os.environ['ROOT_OF_TEST']), 'named')"
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        shutil.copytree(plain_root, root)
        Path(folder).chmod(0o755)
        root.chmod(0o555)
        result = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            env={**os.environ, "ROOT_OF_TEST": str(root)},
        )
        root.chmod(0o755)  # so that the folder can be deleted
    assert "can't be written; run this command as its owner" in result.stderr


# -- the mode

#: Tutor's settings with the names of its docker compose projects.
VALUES = {"LOCAL_PROJECT_NAME": "tutor_local", "DEV_PROJECT_NAME": "tutor_dev"}


@pytest.mark.parametrize(
    ("option", "running_projects", "version", "mode_or_message"),
    [
        ("", [], "22.0.3", "local"),
        ("", ["tutor_local"], "22.0.3", "local"),
        ("", ["tutor_dev"], "22.0.3", "dev"),
        ("", ["tutor_dev"], "22.0.3-main", "nightly"),
        ("dev", ["tutor_dev"], "22.0.3", "dev"),
        ("dev", [], "22.0.3", "dev"),
        ("nightly", [], "22.0.3-main", "nightly"),
        ("k8s", ["tutor_local"], "22.0.3", "k8s"),
        ("local", ["tutor_dev"], "22.0.3", "would be stopped; use --mode dev"),
        ("nightly", [], "22.0.3", "needs Tutor Main"),
        ("", ["tutor_dev", "tutor_local"], "22.0.3", "choose one with --mode"),
    ],
)
def test_the_mode_is_the_running_one_and_an_option_that_contradicts_it_is_refused(
    engine: ContainerEngine, runner: Runner, option, running_projects, version, mode_or_message
):
    (engine.home / "running.json").write_text(json.dumps(running_projects))
    running_modes = instance.running_modes(VALUES, runner)
    try:
        result, _ = instance.find_mode(option, version, running_modes)
    except Refused as refusal:
        result = str(refusal)
    assert mode_or_message in result


def test_a_machine_without_docker_is_refused(runner: Runner, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match=r"docker can't be run.*Tutor needs docker"):
        instance.running_modes(VALUES, runner)


@pytest.mark.parametrize(
    ("mode", "https", "url"),
    [
        ("local", False, "http://learn.example"),
        ("local", True, "https://learn.example"),
        ("dev", False, "http://learn.example:8000"),
        ("nightly", False, "http://learn.example:8000"),
        ("k8s", True, "https://learn.example"),
    ],
)
def test_the_address_of_the_lms_has_a_port_only_in_dev_and_nightly_mode(mode, https, url):
    values = {"LMS_HOST": "learn.example", "ENABLE_HTTPS": https}
    tutor_instance = instance.Instance(
        tutor=Path(), python=Path(), root=Path(), mode=mode, report={"values": values}
    )
    assert tutor_instance.lms_url == url


# -- configuration


def test_configuration_values_are_written_to_a_file_that_only_its_owner_can_read(tmp_path: Path):
    file = tmp_path / "config.yml"
    file.write_text("LMS_HOST: x\nPLUGINS:\n- mfe\n")
    file.chmod(0o644)
    values = {"USHER_APPLICATIONS": [{"name": "shop"}]}
    assert not configuration.has_values(file, values)
    configuration.write(file, values)
    assert configuration.has_values(file, values)
    assert configuration.read(file) == {"LMS_HOST": "x", "PLUGINS": ["mfe"], **values}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_each_application_gets_a_backend_of_its_own():
    default, other = "mitxpro-oauth2", "ol-oauth2"

    def choose(
        entries: list, name: str, *, option: str = "", setting: str = default
    ) -> configuration.BackendChoice:
        """The backend for the application ``name``. entries: the applications that are connected.
        option: the operator's choice. setting: the backend in the application's settings."""
        return configuration.choose_backend(entries, name, option, setting)

    def known(backend: str) -> configuration.BackendChoice:
        return configuration.BackendChoice(name=backend, known_backend=backend)

    def variant_of_default(name: str) -> configuration.BackendChoice:
        return configuration.BackendChoice(name=name, known_backend=default)

    assert choose([], "shop") == known(default)
    # The default is the manual procedure's backend. A setting of the application overrides the
    # default.
    assert configuration.choose_backend([], "shop", option="") == known(other)
    assert choose([], "shop", setting=other) == known(other)
    assert choose([], "shop", option=other) == known(other)

    one_application = [{"name": "mitxonline", "backend": default}]
    # A connected application keeps its backend, unless the operator chooses another.
    assert choose(one_application, "mitxonline", setting=other) == known(default)
    assert choose(one_application, "mitxonline") == known(default)
    assert choose(one_application, "mitxonline", option=other) == known(other)
    # Another application gets a variant; ``mitxpro-oauth2`` is the name of a known backend.
    assert choose(one_application, "mitxpro") == variant_of_default("mitxpro-app-oauth2")
    assert choose(one_application, "store") == variant_of_default("store-oauth2")
    assert choose(one_application, "store", option=other) == known(other)
    long_name = "a" * 40
    assert len(choose(one_application, long_name).name) == configuration.MAX_BACKEND_NAME_LENGTH

    store = {"name": "store", "backend": "store-oauth2", "backend_base": default}
    two_applications = [*one_application, store]
    assert choose(two_applications, "store") == variant_of_default("store-oauth2")
    assert choose(two_applications, "store", option=default) == variant_of_default("store-oauth2")

    # Other applications have the known backend and both variants of the name y.
    both_variants = [{"name": "p", "backend": "y-oauth2"}, {"name": "q", "backend": "y-app-oauth2"}]
    with pytest.raises(Refused, match="choose another --name"):
        choose([*one_application, *both_variants], "y")


def test_updating_an_entry_keeps_the_fields_that_a_person_added():
    entries = [{"name": "shop", "provider_name": "Our shop"}, {"name": "other"}]
    assert configuration.with_entry(entries, {"name": "shop", "root_url": "http://s"}) == [
        {"name": "shop", "provider_name": "Our shop", "root_url": "http://s"},
        {"name": "other"},
    ]


def test_updating_an_entry_removes_the_addresses_of_a_gateway_that_is_no_longer_used():
    own_address, gateway = "http://app:8013", "http://app:9080"
    # ``gateway_url`` is the browsers' second address, so here it is the application's own.
    with_gateway = {
        "name": "mitxonline",
        "provider_name": "MITx",
        "root_url": gateway,
        "gateway_url": own_address,
        "server_url": own_address,
        "logout_url": f"{gateway}/logout/oidc",
    }
    without_gateway = {"name": "mitxonline", "root_url": own_address}
    changed = configuration.with_entry([with_gateway], without_gateway)
    assert changed == [{"name": "mitxonline", "provider_name": "MITx", "root_url": own_address}]
    assert configuration.with_entry(changed, with_gateway) == [with_gateway]
    # An address that a person has set is not changed.
    by_hand = {
        **without_gateway,
        "logout_url": "http://app:8013/leave",
        "server_url": "http://10.0.0.1",
    }
    assert configuration.with_entry([by_hand], without_gateway) == [by_hand]


# -- manual edits of rendered files


def test_manual_edits_are_reported_with_their_files(root: Path, tmp_path: Path):
    private = root / "env/build/openedx/requirements/private.txt"
    private.parent.mkdir(parents=True, exist_ok=True)
    private.write_text("social-auth-mitxpro\n")
    envs = tmp_path / "edx-platform/lms/envs"
    envs.mkdir(parents=True)
    (envs / "private.py").touch()
    report = {
        "values": {"MOUNTS": [f"lms,cms:{tmp_path}/edx-platform:/openedx/edx-platform"]},
        "edits": [["apps/openedx/config/lms.env.yml", "SKIP_EMAIL_VALIDATION"]],
    }
    text = "\n".join(leftovers.find_edits(root, report))
    assert "private.txt lists packages by hand" in text
    assert "private.py overrides settings of the plugin" in text
    assert "edited by hand (SKIP_EMAIL_VALIDATION)" in text
