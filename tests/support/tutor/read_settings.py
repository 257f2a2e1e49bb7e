"""Execute rendered settings over the stand-in platform and print what came out, as JSON.

Run as a program: ``read_settings.py PLATFORM MODE FOLDER NAME …``. PLATFORM: ``dict`` (FEATURES is
a dict) or ``flat`` (features are settings). MODE: the settings module. FOLDER: the rendered
``apps/openedx/settings/lms``. ``FEATURES.NAME`` is a key of FEATURES. LMS_CFG names lms.env.yml.
"""

import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from django.utils import deprecation

PLATFORM = Path(__file__).parent / "platform"


def main(platform: str, mode: str, folder: str, *names: str) -> None:
    # Tutor 20 and 21 name classes of the Django that their LMS has.
    deprecation.RemovedInDjango50Warning = DeprecationWarning
    deprecation.RemovedInDjango51Warning = DeprecationWarning
    make_folders = os.makedirs
    # The container's own folders don't exist here, and must not be made here.
    os.makedirs = lambda path, **options: (
        None if str(path).startswith("/openedx") else make_folders(path, **options)
    )
    sys.path[:0] = [str(PLATFORM / platform), str(PLATFORM / "base")]
    with tempfile.TemporaryDirectory() as place:
        # In the container the rendered folder is mounted at lms/envs/tutor.
        (Path(place) / "tutor").symlink_to(folder)
        envs = importlib.import_module("lms.envs")
        envs.__path__.append(place)
        settings = importlib.import_module(f"lms.envs.tutor.{mode}")
        print(json.dumps({name: read(settings, name) for name in names}))


def read(settings: ModuleType, name: str) -> object:
    if name.startswith("FEATURES."):
        return settings.FEATURES.get(name.removeprefix("FEATURES."))
    return getattr(settings, name, None)


if __name__ == "__main__":
    main(*sys.argv[1:])
