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
from usher.doctor.context import Places, look_at
from usher.doctor.facts.tutor import Tutor
from usher.doctor.runner import Report, run
from usher.embedded.home.folder import Plan

pytestmark = pytest.mark.xdist_group("doctor-tutor")
RELEASE = 22
CHECKS = [f"TUT-{number}" for number in range(1, 9)]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A correct root; each test has a copy of it."""
    path = tmp_path_factory.mktemp("tutor") / "root"
    TutorRoot.make(RELEASE, path, plugins=("usher",))
    return path


@pytest.fixture(scope="module")
def lms_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lms") / "lms"
    make_lms(folder, Plan(root_url="http://local.openedx.io")).close()
    return folder


@pytest.fixture
def lms(lms_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lms_folder, tmp_path / "lms"))


@pytest.fixture
def root(rendered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rendered, tmp_path / "root"))


@pytest.fixture
def paths(root: Path, lms: Path, tmp_path: Path) -> Iterator[Places]:
    engine = ContainerEngine.make(tmp_path / "engine", lms)
    environment = {**engine.environment, "TUTOR_ROOT": str(root)}
    environment["TUTOR_PLUGINS_ROOT"] = str(tmp_path / "plugins")
    environment["PATH"] = f"{engine.bin}{os.pathsep}{os.environ['PATH']}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield Places(tutor_root=root, tutor_executable=str(tutor_executable(RELEASE)))


def report(paths: Places) -> Report:
    with look_at(paths) as context:
        return run(context, CHECKS)


def causes(found: Report) -> list[str]:
    return [line.id for line in found.root_causes]


def enable(root: Path, *words: str) -> None:
    TutorRoot(RELEASE, root).run(*words)


def test_a_healthy_root_has_no_findings(paths: Places) -> None:
    facts = report(paths)
    assert causes(facts) == []
    assert [line.id for line in facts.lines if line.finding.status == "ok"] == CHECKS


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("local", "tutor --root {root} local restart && tutor --root {root} images build openedx"),
        ("dev", "tutor --root {root} dev restart && tutor --root {root} images build openedx-dev"),
    ],
)
def test_a_fix_names_this_root_and_mode(root: Path, mode: str, expected: str) -> None:
    fix = "tutor local restart && tutor images build openedx"
    assert Tutor(root, mode).for_this_root(fix) == expected.format(root=root)
    assert Tutor(None).for_this_root(fix) == fix


def test_tut_1_no_tutor(paths: Places) -> None:
    facts = report(replace(paths, tutor_executable="no-such-tutor"))
    assert causes(facts) == ["TUT-1"]
    assert "pip install" in facts.root_causes[0].finding.fix


@pytest.mark.parametrize("version", ["19.0.5", "23.0.0"])
def test_tut_1_another_release(paths: Places, tmp_path: Path, version: str) -> None:
    command = tmp_path / "tutor"
    command.write_text(f"#!/bin/sh\necho 'tutor, version {version}'\n")
    command.chmod(0o755)
    facts = report(replace(paths, tutor_executable=str(command)))
    assert causes(facts) == ["TUT-1"]
    assert version in facts.root_causes[0].finding.seen


@pytest.mark.slow
def test_tut_2_another_root_is_the_default(
    paths: Places, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTOR_ROOT", str(tmp_path / "other"))
    facts = report(paths)
    assert causes(facts) == ["TUT-2"]
    assert facts.root_causes[0].finding.fix == f"export TUTOR_ROOT={root}"


def test_tut_2_the_root_of_another_lms(paths: Places, tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("OPENEDX_API_BASE_URL=http://other.example:8000\n")
    assert causes(report(replace(paths, env_file=env_file))) == ["TUT-2"]


def test_tut_3_edited_by_hand_instead_of_the_plugin(paths: Places, root: Path) -> None:
    enable(root, "plugins", "disable", "usher")
    enable(root, "config", "save")
    settings = root / "env/apps/openedx/settings/lms/production.py"
    text = settings.read_text()
    settings.write_text(text + '\nTHIRD_PARTY_AUTH_BACKENDS = ["social_auth_mitxpro…"]\n')
    facts = report(paths)
    assert causes(facts) == ["TUT-3"]
    assert "edited by hand" in facts.root_causes[0].finding.seen
    assert "plugins enable usher" in facts.root_causes[0].finding.fix


@pytest.mark.slow
def test_tut_4_not_rendered_since(paths: Places, root: Path) -> None:
    enable(root, "plugins", "disable", "usher")
    enable(root, "config", "save")
    TutorRoot(RELEASE, root).configure(PLUGINS=["usher"])
    facts = report(paths)
    assert causes(facts) == ["TUT-4"]
    assert facts.root_causes[0].finding.fix.endswith("config save")


@pytest.mark.slow
def test_tut_4_the_lms_was_not_restarted(paths: Places, lms: Path) -> None:
    """The running LMS still has the settings with which it started, not the settings that Tutor has
    rendered since."""
    change_lms_settings(lms, "ENABLE_THIRD_PARTY_AUTH", "False")
    facts = report(paths)
    assert causes(facts) == ["TUT-4"]
    assert "restart lms" in facts.root_causes[0].finding.fix


@pytest.mark.slow
def test_tut_4_not_built_since(paths: Places, lms: Path) -> None:
    hide_distribution(lms, "openedx-usher")
    facts = report(paths)
    assert causes(facts) == ["TUT-4"]
    assert "images build openedx" in facts.root_causes[0].finding.fix


def test_tut_5_the_backend_is_not_in_the_image(paths: Places, lms: Path) -> None:
    broken = lms / "social_auth_mitxpro"
    broken.mkdir()
    (broken / "__init__.py").write_text("")
    facts = report(paths)
    assert causes(facts) == ["TUT-5"]
    assert "social_auth_mitxpro" in facts.root_causes[0].finding.seen


def test_tut_6_a_requirement_displaced_a_pin(paths: Places, lms: Path) -> None:
    distribution = lms / "platform_core-1.0.dist-info"
    distribution.mkdir()
    metadata = (
        "Metadata-Version: 2.1\nName: platform-core\nVersion: 1.0\nRequires-Dist: attrs>=99\n"
    )
    (distribution / "METADATA").write_text(metadata)
    facts = report(paths)
    assert causes(facts) == ["TUT-6"]
    assert "platform-core requires attrs" in facts.root_causes[0].finding.seen


def test_tut_7_tabs(paths: Places, root: Path) -> None:
    path = root / "env/apps/openedx/config/lms.env.yml"
    lines = path.read_text().splitlines()
    lines.insert(3, "\tENABLE_THIRD_PARTY_AUTH: true")
    path.write_text("\n".join(lines))
    facts = report(paths)
    assert causes(facts) == ["TUT-7"]
    assert "line 4" in facts.root_causes[0].finding.seen


def test_tut_8_private_settings(paths: Places, lms: Path) -> None:
    folder = lms / "lms" / "envs"
    folder.mkdir(parents=True)
    (folder / "private.py").write_text("THIRD_PARTY_AUTH_BACKENDS = []\n")
    facts = report(paths)
    assert causes(facts) == ["TUT-8"]
    assert "private.py" in facts.root_causes[0].finding.seen


def test_tut_8_a_package_installed_into_the_container(paths: Places, lms: Path) -> None:
    stored_report = '{"private_settings": false, "packages_outside_image": ["social-auth-mitxpro"]}'
    (lms / "manage.py").write_text(f"#!/bin/sh\necho '{stored_report}'\n")
    facts = report(paths)
    assert causes(facts) == ["TUT-8"]
    assert "social-auth-mitxpro" in facts.root_causes[0].finding.seen


def change_lms_settings(lms: Path, feature: str, value: str) -> None:
    """Gives the feature a value in the LMS that differs from ``lms.env.yml``, as in a process that
    was started before the file changed. value: a Python expression."""
    manage = lms / "manage.py"
    begun = (
        "    import django.conf\n"
        "    before = django.conf.LazySettings._setup\n"
        "    def setup(self, name=None):\n"
        "        before(self, name)\n"
        f"        self._wrapped.FEATURES[{feature!r}] = {value}\n"
        "    django.conf.LazySettings._setup = setup\n"
    )
    manage.write_text(
        manage.read_text().replace("    main(sys.argv)", f"{begun}    main(sys.argv)")
    )


def hide_distribution(lms: Path, name: str) -> None:
    """Makes importlib.metadata not find the distribution, as in an image without it."""
    manage = lms / "manage.py"
    hidden = (
        "    import importlib.metadata as metadata\n"
        "    found = metadata.version\n"
        "    def version(name):\n"
        f"        if name == {name!r}:\n"
        "            raise metadata.PackageNotFoundError(name)\n"
        "        return found(name)\n"
        "    metadata.version = version\n"
    )
    manage.write_text(
        manage.read_text().replace("    from usher.embedded", f"{hidden}    from usher.embedded")
    )
