"""The LMS that ``usher dev`` runs for this project, if the project uses that LMS."""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings as django_settings

from usher.application import conf
from usher.contract.folders import DEV_FOLDER, is_lms_of_dev, project_folder


def is_used() -> bool:
    """Whether ``usher dev`` has run for this project, and the project has no other LMS."""
    home = _project() / DEV_FOLDER
    if not os.access(home / "env", os.R_OK):  # the file may belong to another user
        return False
    return bool(conf.missing()) or is_lms_of_dev(home, conf.settings().api_base_url)


def lms_command() -> str:
    """The command that runs ``manage.py lms`` in the LMS, to type in the project's folder; '' if
    the project uses another LMS."""
    file = DEV_FOLDER / "lms" / "manage.py"
    return f"python {file} lms" if is_used() and (_project() / file).is_file() else ""


def command_in_lms(arguments: str) -> str:
    """The command that runs ``manage.py lms`` with these arguments. If the project uses the LMS of
    ``usher dev``, it is to be typed in the project's folder, else in a shell in the LMS."""
    return f"{lms_command() or './manage.py lms'} {arguments}"


def instruction_to_run() -> str:
    """The text before a command in the LMS, without its colon: "Run", or, for an LMS that ``usher
    dev`` does not run, "The LMS's staff must run in the LMS"."""
    return "Run" if lms_command() else "The LMS's staff must run in the LMS"


def _project() -> Path:
    return project_folder(getattr(django_settings, "BASE_DIR", None))
