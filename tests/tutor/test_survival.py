"""The connection survives all of Tutor's commands that rewrite its files."""

import hashlib
import shutil
from pathlib import Path

import pytest

from tests.support.tutor import RELEASES, TutorRoot
from tests.tutor.test_settings import assert_connected

pytestmark = pytest.mark.slow


def fingerprints(root: TutorRoot) -> dict[str, str]:
    """Path → digest of every file in the root except the wheel, which changes with the code."""
    return {
        str(path.relative_to(root.path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.path.rglob("*"))
        if path.is_file() and path.suffix != ".whl"
    }


def test_rendering_a_root_again_gives_the_same_files(own_root: TutorRoot) -> None:
    own_root.run("config", "save")
    original = fingerprints(own_root)
    own_root.run("config", "save")
    assert fingerprints(own_root) == original
    # config.yml is enough to render a root's files again.
    shutil.rmtree(own_root.env)
    own_root.run("config", "save")
    assert fingerprints(own_root) == original


@pytest.mark.newest
def test_generated_secrets_are_kept_in_the_configuration(own_root: TutorRoot) -> None:
    config = own_root.config()
    assert len(config["USHER_SECRET"]) == len(config["USHER_SERVICE_WORKER_TOKEN"]) == 64
    description = own_root.description()
    assert description.service_worker is not None
    assert description.service_worker.token == config["USHER_SERVICE_WORKER_TOKEN"]
    own_root.run("plugins", "disable", "usher")
    own_root.run("config", "save")
    own_root.run("plugins", "enable", "usher")
    own_root.run("config", "save")
    assert own_root.description() == description


@pytest.mark.xdist_group("tutor-upgrade")
def test_upgrades_of_tutor_keep_the_connection(tmp_path: Path) -> None:
    root = TutorRoot.make(RELEASES[0], tmp_path / "root")
    description = root.description()
    for release in RELEASES[1:]:
        upgraded = TutorRoot(release, root.path)
        upgraded.run("config", "save")
        assert upgraded.description() == description
        assert_connected(upgraded, "local")
        assert_connected(upgraded, "dev")


@pytest.mark.xdist_group("tutor-22")
def test_two_roots_have_different_secrets(tmp_path: Path) -> None:
    first, second = (TutorRoot.make(22, tmp_path / name).description() for name in ("one", "two"))
    assert first.applications[0].client_secret != second.applications[0].client_secret
    assert first.service_worker != second.service_worker
