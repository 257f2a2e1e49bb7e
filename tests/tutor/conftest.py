"""Roots are rendered once for each release and order of plugins, and shared by the tests."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.tutor import RELEASES, TutorRoot

#: Orders of plugins. The order must not matter, although tutor-mfe switches its sign-in
#: micro-frontend on in the common settings.
ORDERS = (("mfe", "usher"), ("usher", "mfe"))


def pytest_configure(config: pytest.Config) -> None:
    line = "newest: runs with the newest release of Tutor only, because all releases do the same"
    config.addinivalue_line("markers", line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each test that has the argument ``release`` with every release, or with the newest one
    only if it is marked ``newest``."""
    if "release" in metafunc.fixturenames:
        newest = metafunc.definition.get_closest_marker("newest")
        # Tests of one release run in one process, so that they share its roots.
        parameters = [
            pytest.param(release, marks=pytest.mark.xdist_group(f"tutor-{release}"))
            for release in (RELEASES[-1:] if newest else RELEASES)
        ]
        metafunc.parametrize("release", parameters, scope="session")


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TutorRoot]:
    """``rendered(release, order, nightly=False)`` returns a root that all processes of this test
    session share. Tests may run jobs in it, but not change its configuration.
    """
    own_folder = tmp_path_factory.getbasetemp()
    # With xdist each process has its own folder in the folder of the session.
    session_folder = own_folder.parent if "PYTEST_XDIST_WORKER" in os.environ else own_folder

    def rendered_root(
        release: int, order: tuple[str, ...] = ORDERS[0], *, nightly: bool = False
    ) -> TutorRoot:
        name = "-".join(["tutor", str(release), *order, *(["nightly"] if nightly else [])])
        path = session_folder / name
        with (session_folder / f"{name}.lock").open("w") as lock_file:
            fcntl.flock(lock_file, fcntl.LOCK_EX)
            if not path.exists():
                TutorRoot.make(release, path, plugins=order, nightly=nightly)
        return TutorRoot(release, path, nightly=nightly)

    return rendered_root


@pytest.fixture
def own_root(release: int, rendered: Callable[..., TutorRoot], tmp_path: Path) -> TutorRoot:
    """A copy of the shared root for one test."""
    shutil.copytree(rendered(release).path, tmp_path / "root")
    return TutorRoot(release, tmp_path / "root")
