"""TUT: faults of real Tutor roots, rendered by real Tutor; the LMS's jobs run in a real folder."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.docker import ContainerEngine
from tests.support.served import make_lms
from tests.support.tutor import TutorRoot
from tests.support.tutor.environments import tutor_executable
from usher.doctor.context import Places, create_context
from usher.doctor.facts.tutor import Tutor
from usher.doctor.runner import Report, run
from usher.embedded.home.folder import Plan

pytestmark = pytest.mark.xdist_group("doctor-tutor")
#: The release of Tutor.
RELEASE = 22
#: All checks of Tutor.
CHECKS = [f"TUT-{number}" for number in range(1, 9)]


@pytest.fixture(scope="module")
def rendered_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A correct root; each test has a copy of it."""
    path = tmp_path_factory.mktemp("tutor") / "root"
    TutorRoot.make(RELEASE, path, plugins=("usher",))
    return path


@pytest.fixture(scope="module")
def lms_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an LMS with Usher's settings; each test has a copy of it."""
    folder = tmp_path_factory.mktemp("lms") / "lms"
    make_lms(folder, Plan(root_url="http://local.openedx.io")).close()
    return folder


@pytest.fixture
def lms(lms_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lms_folder, tmp_path / "lms"))


@pytest.fixture
def root(rendered_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rendered_root, tmp_path / "root"))


@pytest.fixture
def installation(root: Path, lms: Path, tmp_path: Path) -> Iterator[Places]:
    """The Tutor root ``root``. Tutor's ``docker`` runs the LMS's commands in the folder ``lms``."""
    engine = ContainerEngine.make(tmp_path / "engine", lms)
    environment = {**engine.environment, "TUTOR_ROOT": str(root)}
    environment["TUTOR_PLUGINS_ROOT"] = str(tmp_path / "plugins")
    environment["PATH"] = f"{engine.bin}{os.pathsep}{os.environ['PATH']}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield Places(tutor_root=root, tutor_executable=str(tutor_executable(RELEASE)))


def run_checks(installation: Places) -> Report:
    with create_context(installation) as context:
        return run(context, CHECKS)


def root_cause_ids(report: Report) -> list[str]:
    return [line.id for line in report.root_causes]


def run_tutor(root: Path, *words: str) -> None:
    TutorRoot(RELEASE, root).run(*words)


def test_a_correct_tutor_root_has_no_findings(installation: Places) -> None:
    report = run_checks(installation)
    assert root_cause_ids(report) == []
    assert [line.id for line in report.lines if line.finding.status == "ok"] == CHECKS


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("local", "tutor --root {root} local restart && tutor --root {root} images build openedx"),
        ("dev", "tutor --root {root} dev restart && tutor --root {root} images build openedx-dev"),
    ],
)
def test_a_fix_gets_the_root_and_the_mode(root: Path, mode: str, expected: str) -> None:
    fix = "tutor local restart && tutor images build openedx"
    assert Tutor(root, mode).adapt_to_root(fix) == expected.format(root=root)
    assert Tutor(None).adapt_to_root(fix) == fix


def test_tut_1_fails_without_a_tutor_command(installation: Places) -> None:
    report = run_checks(replace(installation, tutor_executable="no-such-tutor"))
    assert root_cause_ids(report) == ["TUT-1"]
    assert "pip install" in report.root_causes[0].finding.fix


@pytest.mark.parametrize("version", ["19.0.5", "23.0.0"])
def test_tut_1_fails_for_an_unsupported_release(
    installation: Places, tmp_path: Path, version: str
) -> None:
    command = tmp_path / "tutor"
    command.write_text(f"#!/bin/sh\necho 'tutor, version {version}'\n")
    command.chmod(0o755)
    report = run_checks(replace(installation, tutor_executable=str(command)))
    assert root_cause_ids(report) == ["TUT-1"]
    assert version in report.root_causes[0].finding.seen


@pytest.mark.slow
def test_tut_2_warns_if_another_root_is_the_default(
    installation: Places, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTOR_ROOT", str(tmp_path / "other"))
    report = run_checks(installation)
    assert root_cause_ids(report) == ["TUT-2"]
    assert report.root_causes[0].finding.fix == f"export TUTOR_ROOT={root}"


def test_tut_2_fails_for_the_root_of_another_lms(installation: Places, tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("OPENEDX_API_BASE_URL=http://other.example:8000\n")
    assert root_cause_ids(run_checks(replace(installation, env_file=env_file))) == ["TUT-2"]


def test_tut_3_names_a_file_that_was_edited_by_hand(installation: Places, root: Path) -> None:
    run_tutor(root, "plugins", "disable", "usher")
    run_tutor(root, "config", "save")
    settings = root / "env/apps/openedx/settings/lms/production.py"
    text = settings.read_text()
    settings.write_text(text + '\nTHIRD_PARTY_AUTH_BACKENDS = ["social_auth_mitxpro…"]\n')
    report = run_checks(installation)
    assert root_cause_ids(report) == ["TUT-3"]
    assert "edited by hand" in report.root_causes[0].finding.seen
    assert "plugins enable usher" in report.root_causes[0].finding.fix


@pytest.mark.slow
def test_tut_4_fails_if_settings_were_not_rendered_after_the_plugin_was_enabled(
    installation: Places, root: Path
) -> None:
    run_tutor(root, "plugins", "disable", "usher")
    run_tutor(root, "config", "save")
    TutorRoot(RELEASE, root).configure(PLUGINS=["usher"])
    report = run_checks(installation)
    assert root_cause_ids(report) == ["TUT-4"]
    assert report.root_causes[0].finding.fix.endswith("config save")


@pytest.mark.slow
def test_tut_4_fails_if_the_lms_was_not_restarted_after_rendering(
    installation: Places, lms: Path
) -> None:
    """The running LMS still has the settings with which it started, not the settings that Tutor has
    rendered since."""
    change_lms_settings(lms, feature="ENABLE_THIRD_PARTY_AUTH", value="False")
    report = run_checks(installation)
    assert root_cause_ids(report) == ["TUT-4"]
    assert "restart lms" in report.root_causes[0].finding.fix


@pytest.mark.slow
def test_tut_4_fails_if_the_image_lacks_the_plugins_package(
    installation: Places, lms: Path
) -> None:
    hide_distribution(lms, "openedx-usher")
    report = run_checks(installation)
    assert root_cause_ids(report) == ["TUT-4"]
    assert "images build openedx" in report.root_causes[0].finding.fix


def test_tut_5_fails_if_the_image_lacks_the_backend(installation: Places, lms: Path) -> None:
    # A package of this name that has no backend to import.
    broken = lms / "social_auth_mitxpro"
    broken.mkdir()
    (broken / "__init__.py").write_text("")
    report = run_checks(installation)
    assert root_cause_ids(report) == ["TUT-5"]
    assert "social_auth_mitxpro" in report.root_causes[0].finding.seen


def test_tut_6_names_a_requirement_that_conflicts_with_the_platform(
    installation: Places, lms: Path
) -> None:
    # A package of the platform that needs a newer attrs than is installed.
    distribution = lms / "platform_core-1.0.dist-info"
    distribution.mkdir()
    metadata = (
        "Metadata-Version: 2.1\nName: platform-core\nVersion: 1.0\nRequires-Dist: attrs>=99\n"
    )
    (distribution / "METADATA").write_text(metadata)
    report = run_checks(installation)
    assert root_cause_ids(report) == ["TUT-6"]
    assert "platform-core requires attrs" in report.root_causes[0].finding.seen


def test_tut_7_names_the_line_with_a_tab(installation: Places, root: Path) -> None:
    path = root / "env/apps/openedx/config/lms.env.yml"
    lines = path.read_text().splitlines()
    lines.insert(3, "\tENABLE_THIRD_PARTY_AUTH: true")  # becomes line 4
    path.write_text("\n".join(lines))
    report = run_checks(installation)
    assert root_cause_ids(report) == ["TUT-7"]
    assert "line 4" in report.root_causes[0].finding.seen


def test_tut_8_fails_if_private_py_exists(installation: Places, lms: Path) -> None:
    folder = lms / "lms" / "envs"
    folder.mkdir(parents=True)
    (folder / "private.py").write_text("THIRD_PARTY_AUTH_BACKENDS = []\n")
    report = run_checks(installation)
    assert root_cause_ids(report) == ["TUT-8"]
    assert "private.py" in report.root_causes[0].finding.seen


def test_tut_8_names_a_package_installed_into_the_container(
    installation: Places, lms: Path
) -> None:
    # The LMS's report of a container with a package that its image lacks.
    stored_report = '{"private_settings": false, "packages_outside_image": ["social-auth-mitxpro"]}'
    (lms / "manage.py").write_text(f"#!/bin/sh\necho '{stored_report}'\n")
    report = run_checks(installation)
    assert root_cause_ids(report) == ["TUT-8"]
    assert "social-auth-mitxpro" in report.root_causes[0].finding.seen


def change_lms_settings(lms: Path, feature: str, value: str) -> None:
    """Gives the feature a value in the LMS that differs from ``lms.env.yml``, as in a process that
    was started before the file changed. value: a Python expression."""
    manage = lms / "manage.py"
    override = (
        "    import django.conf\n"
        "    original = django.conf.LazySettings._setup\n"
        "    def setup(self, name=None):\n"
        "        original(self, name)\n"
        f"        self._wrapped.FEATURES[{feature!r}] = {value}\n"
        "    django.conf.LazySettings._setup = setup\n"
    )
    manage.write_text(
        manage.read_text().replace("    main(sys.argv)", f"{override}    main(sys.argv)")
    )


def hide_distribution(lms: Path, name: str) -> None:
    """Makes importlib.metadata not find the distribution, as in an image without it."""
    manage = lms / "manage.py"
    override = (
        "    import importlib.metadata as metadata\n"
        "    original = metadata.version\n"
        "    def version(name):\n"
        f"        if name == {name!r}:\n"
        "            raise metadata.PackageNotFoundError(name)\n"
        "        return original(name)\n"
        "    metadata.version = version\n"
    )
    manage.write_text(
        manage.read_text().replace("    from usher.embedded", f"{override}    from usher.embedded")
    )


def test_a_config_file_that_is_not_in_utf_8_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_bytes(
        b"LMS_HOST: lms.example\n# \xe9diteur\nPLUGINS: [usher]\n"
    )
    tutor = Tutor(tmp_path)
    assert (tutor.lms_host, tutor.plugin_enabled) == ("lms.example", True)
