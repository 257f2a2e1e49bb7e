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
TASKS = (
    "usher.engine.tasks",
    "usher.application.provider.tasks",
    "usher.application.runs.tasks",
    "usher.application.tasks",
)

#: A script that hides the top-level modules in ``foreign``, imports every module of ``packages``
#: and prints their number.
PROGRAM = """
import importlib, json, pkgutil, sys

wheel, foreign, packages, skipped, django = json.load(sys.stdin)
sys.path.insert(0, wheel)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in foreign:
            message = f"No module named {name!r}: no requirement names it"
            raise ModuleNotFoundError(message, name=name)

sys.meta_path.insert(0, Finder())
for name in [n for n in sys.modules if n.partition(".")[0] in foreign]:
    del sys.modules[name]
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
    settings.configure(**{k: v for k, v in values.items() if k.isupper()})
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
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def closure(*wanted: str) -> set[str]:
    """The names of the distributions that these requirements need, directly or indirectly."""
    found: set[tuple[str, str]] = set()
    todo = [Requirement(one) for one in wanted]
    while todo:
        one = todo.pop()
        name = canonicalize_name(one.name)
        for extra in ("", *one.extras):
            if (name, extra) in found:
                continue
            try:
                requires = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                continue  # for another platform or Python
            found.add((name, extra))
            for text in requires:
                required = Requirement(text)
                if required.marker is None or required.marker.evaluate({"extra": extra}):
                    todo.append(required)
    return {name for name, _ in found}


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
    Returns the number of imported modules."""
    allowed = closure(*requirements)
    tops = metadata.packages_distributions()
    foreign = [
        top
        for top, owners in tops.items()
        if top not in ("usher", "campus")
        and not {canonicalize_name(owner) for owner in owners} & allowed
    ]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
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
def test_an_extra_alone_is_enough(
    wheel: Path, extra: str, packages: tuple[str, ...], skipped: tuple[str, ...], django: bool
) -> None:
    pytest_too = ("pytest",) if extra == "embedded" else ()
    assert (
        import_all(wheel, (f"{USHER}[{extra}]", *pytest_too), packages, skipped, django=django) > 3
    )


def test_pytest_starts_where_only_the_lms_plugin_is_installed(wheel: Path) -> None:
    assert import_all(wheel, (USHER, "pytest"), ("usher.testing.plugin",)) == 1


def test_a_missing_package_would_be_noticed(wheel: Path) -> None:
    with pytest.raises(AssertionError, match="No module named 'idna'"):
        import_all(wheel, (USHER,), ("usher.client",))


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    """Templates, migrations, scripts that are sent as text, ``py.typed``."""

    def files(folder: Path) -> set[str]:
        paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
        return {str(path.relative_to(folder)) for path in paths if path.is_file()}

    assert files(wheel / "usher") == files(ROOT / "src" / "usher")


def test_the_wheel_names_what_its_packages_are_found_by(wheel: Path) -> None:
    (information,) = wheel.glob("*.dist-info")
    entry_points = metadata.PathDistribution(information).entry_points
    assert {(point.group, point.name) for point in entry_points} == {
        ("console_scripts", "usher"),
        ("lms.djangoapp", "usher"),
        ("pytest11", "usher"),
        ("tutor.plugin.v1", "usher"),
    }
