"""Reads the settings of an LMS from its folder, and from a file that overrides them."""

import json
import os
from pathlib import Path
from typing import Any

import yaml

#: Environment variable: the folder of the LMS to run.
HOME_VARIABLE = "USHER_LMS_HOME"
#: Environment variable, as in the platform: a YAML file that overrides everything else. (Tutor
#: renders such a file.)
OVERLAY_VARIABLE = "LMS_CFG"
#: Environment variable of the worker process: the id of the process that started it.
SERVER_VARIABLE = "USHER_LMS_SERVER_PID"
SETTINGS_FILE = "lms.env.yml"
SECRETS_FILE = "lms.secrets.json"


class SettingsFileError(RuntimeError):
    """A settings file is missing or unreadable; the message names the file and what to do."""


def home() -> Path:
    """The folder of this LMS, from the environment variable. Raises SettingsFileError if the
    variable is not set."""
    folder = os.environ.get(HOME_VARIABLE, "")
    if not folder:
        raise SettingsFileError(
            f"{HOME_VARIABLE} is not set; set it to the folder that "
            "`python -m usher.embedded init` created"
        )
    return Path(folder).resolve()


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in the YAML file ``path``. Raises SettingsFileError if the file can't be read or
    has no mapping."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise SettingsFileError(f"{path} does not exist") from error
    except (OSError, yaml.YAMLError) as error:
        raise SettingsFileError(f"{path} can't be read: {error}") from error
    if not isinstance(data, dict):
        raise SettingsFileError(f"{path} is not a mapping of settings")
    return data


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings in ``lms.env.yml`` of the LMS, overridden by the file that LMS_CFG names. Of
    FEATURES, only the keys in that file are overridden. Raises SettingsFileError."""
    settings = read_yaml(folder / SETTINGS_FILE)
    overlay_path = os.environ.get(OVERLAY_VARIABLE, "")
    if overlay_path:
        overlay = read_yaml(Path(overlay_path))
        features = {**settings.get("FEATURES", {}), **overlay.get("FEATURES", {})}
        settings = {**settings, **overlay, "FEATURES": features}
    return settings


def read_secrets(folder: Path) -> dict[str, Any]:
    """SECRET_KEY and JWT_PRIVATE_SIGNING_JWK of the LMS in ``folder``. Raises SettingsFileError."""
    path = folder / SECRETS_FILE
    try:
        secrets: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsFileError(f"{path} can't be read: {error}") from error
    return secrets
