# mypy: ignore-errors
"""Runs in Tutor's own Python and reports the state of a Tutor root; changes nothing.

The caller defines PARAMS, a dict with ``root``. The result is one line of JSON after
``ANSWER_MARK``, because Tutor prints other lines as well.
"""

import json
from pathlib import Path

ANSWER_MARK = "usher-answer: "
#: Tutor's settings that are reported.
VALUES = (
    "LMS_HOST",
    "CMS_HOST",
    "ENABLE_HTTPS",
    "LOCAL_PROJECT_NAME",
    "DEV_PROJECT_NAME",
    "K8S_NAMESPACE",
    "MOUNTS",
    "DOCKER_IMAGE_OPENEDX",
    "DOCKER_IMAGE_OPENEDX_DEV",
)
#: Rendered files that contain the plugin's patches. They are stale if Tutor would render another
#: content now.
RENDERED_FILES = (
    "apps/openedx/config/lms.env.yml",
    "apps/openedx/config/usher.json",
    "apps/openedx/settings/lms/production.py",
    "apps/openedx/settings/lms/development.py",
    "build/openedx/Dockerfile",
)
#: Names that the manual procedure tells people to write into rendered files.
NAMES_OF_MANUAL_EDITS = (
    "ALLOW_PUBLIC_ACCOUNT_CREATION",
    "SKIP_EMAIL_VALIDATION",
    "THIRD_PARTY_AUTH_BACKENDS",
    "AUTHENTICATION_BACKENDS",
    "SOCIAL_AUTH_OAUTH_SECRETS",
    "IDA_LOGOUT_URI_LIST",
    "ENABLE_AUTHN_MICROFRONTEND",
    "social_auth_mitxpro",
    "ol_social_auth",
)


def inspect_root(root):
    """Returns Tutor's version and settings, its enabled plugins, whether Usher is installed in
    Tutor's environment, and the result of ``_compare`` for the rendered files."""
    import importlib.util

    from tutor import __about__, hooks, plugins
    from tutor import config as tutor_config

    hooks.Actions.CORE_READY.do()
    hooks.Actions.PROJECT_ROOT_READY.do(root)
    config = tutor_config.load_full(root)
    enabled = sorted(plugins.iter_loaded())
    stale, edits = _compare(root, config, enabled)
    return {
        "version": __about__.__version__,
        "installed": importlib.util.find_spec("usher") is not None
        and importlib.util.find_spec("usher.tutor") is not None,
        "usher_version": _usher_version(),
        "enabled": enabled,
        "values": {key: config.get(key) for key in VALUES},
        "usher": {key: value for key, value in config.items() if key.startswith("USHER_")},
        "stale": stale,
        "edits": edits,
    }


def _compare(root, config, enabled):
    """Returns the rendered files that are outdated or missing, and [file, name] for each of
    NAMES_OF_MANUAL_EDITS that is in one of them and that Tutor would not render."""
    from tutor import env

    stale, edits = [], []
    for name in RENDERED_FILES:
        if name.endswith("usher.json") and "usher" not in enabled:
            continue
        expected = env.render_file(config, *name.split("/"))
        path = Path(root) / "env" / name
        present = path.read_text() if path.exists() else ""
        if present == expected:
            continue
        stale.append(name)
        edits += [
            [name, setting]
            for setting in NAMES_OF_MANUAL_EDITS
            if setting in present and setting not in expected
        ]
    return stale, edits


def _usher_version():
    from importlib import metadata

    try:
        return metadata.version("openedx-usher")
    except metadata.PackageNotFoundError:
        return ""


def main(params):
    try:
        answer = inspect_root(params["root"])
    except Exception as error:  # noqa: BLE001 - reported to the caller, whatever it is
        answer = {"error": f"{type(error).__name__}: {error}"}
    print("\n" + ANSWER_MARK + json.dumps(answer, default=str), flush=True)  # noqa: T201


if "PARAMS" in globals():
    main(globals()["PARAMS"])
