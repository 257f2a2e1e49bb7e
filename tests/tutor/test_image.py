"""The LMS's image: the packages that its Dockerfile installs, and the code in Usher's wheel."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.docker import ContainerEngine
from tests.support.tutor import TutorRoot
from usher.contract import wheel

Rendered = Callable[..., TutorRoot]
#: The command in the Dockerfile that installs the sign-in backends.
BACKENDS = "pip install --no-deps 'social-auth-mitxpro==0.7.1' 'ol-social-auth==0.3.0'"


def dockerfile(root: TutorRoot) -> str:
    return (root.env / "build/openedx/Dockerfile").read_text()


def test_the_dockerfile_installs_the_wheel_of_this_code(rendered: Rendered, release: int) -> None:
    root = rendered(release)
    context = root.env / "build/openedx/usher"
    assert [path.name for path in context.iterdir()] == [wheel.filename()]
    text = dockerfile(root)
    install = f"pip install --no-deps /mnt/usher-wheel/{wheel.filename()}"
    assert "RUN --mount=type=bind,source=usher,target=/mnt/usher-wheel \\\n    " + install in text
    # Usher is installed after the platform's requirements, in a stage that the images of local and
    # dev share.
    positions = [text.index(part) for part in ("edx/base.txt", install, BACKENDS, "AS production")]
    assert positions == sorted(positions)


@pytest.mark.newest
def test_a_requirement_replaces_the_wheel_in_the_dockerfile(own_root: TutorRoot) -> None:
    own_root.configure(USHER_REQUIREMENT="openedx-usher==1.2.3", USHER_BACKEND_REQUIREMENTS=[])
    own_root.run("config", "save")
    text = dockerfile(own_root)
    assert "pip install --no-deps 'openedx-usher==1.2.3'" in text
    assert "usher-wheel" not in text
    assert text.count("pip install --no-deps") == 1


@pytest.mark.parametrize("image", ["openedx", "openedx-dev"])
@pytest.mark.newest
def test_a_stale_wheel_is_replaced_when_the_image_is_built(
    own_root: TutorRoot, image: str, tmp_path: Path
) -> None:
    root, engine = own_root, ContainerEngine.make(tmp_path / "engine")
    root.environment.update(engine.environment)
    wheel_file = root.env / "build/openedx/usher" / wheel.filename()
    wheel_file.write_bytes(b"stale")
    (wheel_file.parent / "openedx_usher-0.0.1-py3-none-any.whl").write_bytes(b"stale")
    root.run("images", "build", image)
    assert list(wheel_file.parent.iterdir()) == [wheel_file]
    with zipfile.ZipFile(wheel_file) as archive:
        assert archive.read("usher/contract/wheel.py") == Path(wheel.__file__).read_bytes()
    last_call = engine.calls()[-1]
    assert last_call[:3] == ["docker", "buildx", "build"]
    build_context = last_call[-1]
    assert build_context == str(root.env / "build/openedx")


def test_launch_builds_the_image_because_the_published_one_has_no_usher(
    rendered: Rendered, release: int
) -> None:
    program = (
        "from tutor.commands.cli import main; from tutor import hooks; import sys;"
        "hooks.Actions.CORE_READY.do();"
        f"hooks.Actions.PROJECT_ROOT_READY.do({str(rendered(release).path)!r});"
        "print(*(hooks.Filters.IMAGES_BUILD_REQUIRED.apply([], mode) for mode in ('local', 'dev')))"
    )
    python = rendered(release).python
    result = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    # In dev mode Tutor itself requires ``openedx-dev``, and other plugins may require more images.
    assert "['openedx'] ['openedx-dev'" in result.stdout


@pytest.mark.xdist_group("tutor-wheel")
def test_the_wheel_installs_and_registers_both_plugins(tmp_path: Path) -> None:
    path = tmp_path / wheel.filename()
    path.write_bytes(wheel.build())
    assert wheel.build() == path.read_bytes(), "the same code gives the same bytes"
    names = zipfile.ZipFile(path).namelist()
    assert "usher/lms/apps.py" in names
    assert "usher/tutor/patches/lms-env" in names
    assert not [name for name in names if name.endswith(".pyc")]
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", target, path], check=True)
    program = (
        "from importlib.metadata import distribution; import usher, usher.lms.settings.apply;"
        "print(usher.__file__);"
        "print(*(point.group for point in distribution('openedx-usher').entry_points))"
    )
    command = [
        sys.executable,
        "-S",  # without the installed packages, among them this checkout of Usher
        "-c",
        f"import sys; sys.path.insert(0, {str(target)!r}); {program}",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert str(target) in result.stdout
    for group in ("lms.djangoapp", "tutor.plugin.v1"):
        assert group in result.stdout
