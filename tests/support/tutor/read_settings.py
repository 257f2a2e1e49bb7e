"""Executes Tutor's rendered settings, with a small part of the platform's settings in place of the
platform, and prints values as JSON.

Run as a program: ``read_settings.py PLATFORM FOLDER NAME …``. PLATFORM: ``dict`` if FEATURES is a
dict, ``flat`` if features are settings. FOLDER: the rendered ``apps/openedx/settings/lms``. NAME: a
setting to print; ``FEATURES.KEY`` for a feature. Environment variables: LMS_CFG, the path of
lms.env.yml; WITHOUT_USHER, if not empty, hides Usher as in an image without it.

Prints a JSON object, name → value, for each of MODULES on a line of its own.
"""

import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import edx_django_utils.plugins  # noqa: F401 - the slow import, before the forks
from django.utils import deprecation

MODULES = ("production", "development")
PLATFORM = Path(__file__).parent / "platform"


def main(platform: str, folder: str, *names: str) -> None:
    # Settings of Tutor 20 and 21 name these classes of older Djangos.
    deprecation.RemovedInDjango50Warning = DeprecationWarning
    deprecation.RemovedInDjango51Warning = DeprecationWarning
    real_makedirs = os.makedirs

    def makedirs(path, **options):
        # The container's folders don't exist here and must not be created.
        if not str(path).startswith("/openedx"):
            real_makedirs(path, **options)

    os.makedirs = makedirs
    if os.environ.get("WITHOUT_USHER"):
        sys.modules["usher"] = None  # makes its import fail
    sys.path[:0] = [str(PLATFORM / platform), str(PLATFORM / "base")]
    with tempfile.TemporaryDirectory() as envs_folder:
        # In the container the rendered folder is mounted at lms/envs/tutor.
        (Path(envs_folder) / "tutor").symlink_to(folder)
        envs = importlib.import_module("lms.envs")
        envs.__path__.append(envs_folder)
        for module in MODULES:
            # Each in its own process, because both change the same lists of the platform.
            if os.fork() == 0:
                settings = importlib.import_module(f"lms.envs.tutor.{module}")
                print(json.dumps({name: read(settings, name) for name in names}), flush=True)
                os._exit(0)
            _pid, status = os.wait()
            if status:
                sys.exit(f"lms.envs.tutor.{module} can't be executed")


def read(settings: ModuleType, name: str) -> object:
    """The value of a setting, or of a feature, which is named ``FEATURES.NAME``; None if it is
    missing."""
    if name.startswith("FEATURES."):
        return settings.FEATURES.get(name.removeprefix("FEATURES."))
    return getattr(settings, name, None)


if __name__ == "__main__":
    main(*sys.argv[1:])
