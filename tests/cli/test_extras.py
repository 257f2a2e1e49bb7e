"""The wheel is complete, and each extra by itself is enough for its purpose.

The tests' own environment has all distributions. So each test starts a new interpreter that uses
the wheel instead of this checkout, and hides all distributions that the extra does not require,
directly or indirectly.
"""

import json
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
USHER = "openedx-usher"
#: Modules that are sent as text to the application's own Python and run there.
SCRIPTS = (
    "usher.connect.application.scripts",
    "usher.doctor.facts.application_script",
    "usher.doctor.facts.authorize_script",
    "usher.doctor.journey_learner",
    "usher.cli.dev.inside_project",
    "usher.sidecar.agent",
)
#: Modules of Celery tasks, which need the extra ``celery``.
TASKS = (
    "usher.engine.tasks",
    "usher.application.provider.tasks",
    "usher.application.runs.tasks",
    "usher.application.tasks",
)

#: A script that hides the top-level modules in ``foreign``, imports every module of ``packages``
#: and prints their number.
IMPORT_SCRIPT = """
import importlib, json, pkgutil, sys

wheel, foreign, packages, skipped, django = json.load(sys.stdin)
sys.path.insert(0, wheel)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in foreign:
            message = f"No module named {name!r}: no requirement names it"
            raise ModuleNotFoundError(message, name=name)

sys.meta_path.insert(0, Finder())
for loaded in [name for name in sys.modules if name.partition(".")[0] in foreign]:
    del sys.modules[loaded]
if django:
    import os
    from django.conf import settings
    values = {
        "SECRET_KEY": "x", "USE_TZ": True, "ROOT_URLCONF": "usher.application.urls",
        "INSTALLED_APPS": ["django.contrib.admin", "django.contrib.auth", "django.contrib.messages",
            "django.contrib.contenttypes", "django.contrib.sessions"],
        "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    }
    from usher.application import defaults
    defaults.apply(values, env_file=None)
    settings.configure(**{key: value for key, value in values.items() if key.isupper()})
    import django as web
    web.setup()
count = 0
for name in packages:
    package = importlib.import_module(name)
    count += 1
    for found in pkgutil.walk_packages(getattr(package, "__path__", []), name + "."):
        if not found.name.startswith(tuple(skipped)) and ".migrations" not in found.name:
            importlib.import_module(found.name)
            count += 1
assert sys.modules["usher"].__path__[0].startswith(wheel), sys.modules["usher"].__path__
print(count)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the unpacked wheel, built as ``make wheel`` builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def required_distributions(*requirements: str) -> set[str]:
    """The names of the distributions that these requirements need, directly or indirectly."""
    names_and_extras: set[tuple[str, str]] = set()
    pending = [Requirement(text) for text in requirements]
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in names_and_extras:
                continue
            try:
                requires = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                continue  # for another platform or Python
            names_and_extras.add((name, extra))
            for text in requires:
                required = Requirement(text)
                if required.marker is None or required.marker.evaluate({"extra": extra}):
                    pending.append(required)
    return {name for name, _ in names_and_extras}


def import_all(
    wheel: Path,
    requirements: tuple[str, ...],
    packages: tuple[str, ...],
    skipped: tuple[str, ...] = (),
    *,
    django: bool = False,
) -> int:
    """Imports all modules of ``packages``, except modules whose names begin with one of
    ``skipped``, in an interpreter that has only the distributions that ``requirements`` need.
    Returns the number of imported modules. django: whether to set up Django first, which modules
    with models need."""
    allowed = required_distributions(*requirements)
    distributions_by_module = metadata.packages_distributions()
    foreign = [
        module
        for module, distributions in distributions_by_module.items()
        if module not in ("usher", "campus")
        and not {canonicalize_name(name) for name in distributions} & allowed
    ]
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_SCRIPT],
        input=json.dumps([str(wheel), foreign, packages, skipped, django]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return int(result.stdout.split()[-1])


@pytest.mark.parametrize(
    ("extra", "packages", "skipped", "django"),
    [
        # usher.client.substitute is for tests, which install httpx themselves.
        ("client", ("usher.client",), ("usher.client.substitute",), False),
        (
            "shell",
            (
                *("usher.cli.main", "usher.cli.why", "usher.connect", "usher.doctor"),
                *("usher.journey", "usher.sidecar"),
            ),
            SCRIPTS,
            False,
        ),
        ("application", ("usher.engine", "usher.application", "usher.management"), TASKS, True),
        ("celery", ("usher.engine", "usher.application"), (), True),
        (
            "embedded",
            ("usher.cli.dev", "usher.testing", "usher.embedded.home.folder"),
            SCRIPTS,
            False,
        ),
    ],
)
def test_the_modules_of_an_extra_import_with_this_extra_alone(
    wheel: Path, extra: str, packages: tuple[str, ...], skipped: tuple[str, ...], django: bool
) -> None:
    # usher.testing is a plugin of pytest, which its users have installed.
    other_requirements = ("pytest",) if extra == "embedded" else ()
    imported = import_all(
        wheel, (f"{USHER}[{extra}]", *other_requirements), packages, skipped, django=django
    )
    assert imported > 3  # also modules inside the packages


def test_the_pytest_plugin_imports_without_any_extra(wheel: Path) -> None:
    plugin = "usher.testing.plugin"
    imported = import_all(wheel, requirements=(USHER, "pytest"), packages=(plugin,))
    assert imported == 1


def test_importing_the_client_without_its_extra_fails(wheel: Path) -> None:
    with pytest.raises(AssertionError, match="No module named 'idna'"):
        import_all(wheel, requirements=(USHER,), packages=("usher.client",))


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    """Templates, migrations, scripts that are sent as text, ``py.typed``."""

    def files(folder: Path) -> set[str]:
        paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
        return {str(path.relative_to(folder)) for path in paths if path.is_file()}

    assert files(wheel / "usher") == files(ROOT / "src" / "usher")


def test_the_wheel_has_the_entry_points_of_the_command_and_the_plugins(wheel: Path) -> None:
    (information,) = wheel.glob("*.dist-info")
    entry_points = metadata.PathDistribution(information).entry_points
    assert {(point.group, point.name) for point in entry_points} == {
        ("console_scripts", "usher"),
        ("lms.djangoapp", "usher"),
        ("pytest11", "usher"),
        ("tutor.plugin.v1", "usher"),
    }
