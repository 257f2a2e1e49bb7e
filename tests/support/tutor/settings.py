"""The LMS's settings that result from a root's rendered files."""

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.support.tutor.root import TutorRoot

#: Tutor's mode → index of its settings module in ``read_settings.MODULES``.
_MODULE_OF_MODE = {"local": 0, "dev": 1, "k8s": 0}
_MODULE_COUNT = 2
FEATURES = (
    "ALLOW_PUBLIC_ACCOUNT_CREATION",
    "ENABLE_COMBINED_LOGIN_REGISTRATION",
    "ENABLE_THIRD_PARTY_AUTH",
    "ENABLE_OAUTH2_PROVIDER",
    "SKIP_EMAIL_VALIDATION",
    "ENABLE_AUTHN_MICROFRONTEND",
    "THIRD_PARTY_AUTH_HINT",
)
NAMES = (
    *FEATURES,
    *(f"FEATURES.{name}" for name in FEATURES),
    "AUTHENTICATION_BACKENDS",
    "IDA_LOGOUT_URI_LIST",
    "LOGIN_REDIRECT_WHITELIST",
    "REGISTRATION_EXTRA_FIELDS",
    "REGISTRATION_RATELIMIT",
    "SITE_ID",
    "SOCIAL_AUTH_OAUTH_SECRETS",
    "THIRD_PARTY_AUTH_BACKENDS",
)


def read_lms_settings(root: TutorRoot, mode: str, *, with_usher: bool = True) -> dict[str, Any]:
    """The LMS's settings in this mode: each of NAMES → its value, None for a missing setting.

    with_usher: whether Usher is installed in the LMS's image.
    """
    files = [root.lms_config, *sorted((root.env / "apps/openedx/settings/lms").glob("*.py"))]
    contents = tuple(file.read_text() for file in files)
    settings_by_module = _execute(root.release, root.lms_config, contents, with_usher=with_usher)
    return settings_by_module[_MODULE_OF_MODE[mode]]


@lru_cache
def _execute(
    release: int, lms_config: Path, _contents: tuple[str, ...], *, with_usher: bool
) -> list[dict[str, Any]]:
    """The settings of each of ``read_settings.MODULES``. _contents: the texts of the rendered
    files, a parameter only so that changed files are executed again."""
    script = Path(__file__).parent / "read_settings.py"
    # Features became flat settings after the release of Tutor 20.
    features_style = "dict" if release == 20 else "flat"
    settings = lms_config.parent.parent / "settings/lms"
    result = subprocess.run(
        [sys.executable, "-B", script, features_style, settings, *NAMES],
        env={
            **os.environ,
            "LMS_CFG": str(lms_config),
            "WITHOUT_USHER": "" if with_usher else "1",
        },
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise AssertionError(result.stderr)
    # The settings may print other lines before these.
    return [json.loads(line) for line in result.stdout.splitlines()[-_MODULE_COUNT:]]
