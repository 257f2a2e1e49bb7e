"""The Tutor plugin ``usher`` (v1), for Tutor 20, 21 and 22, in the modes local, dev and k8s.

Configuration (``config.yml``; ``tutor config save`` renders it)
    USHER_APPLICATIONS              list of the connected applications; fields of an entry are
                                    those of usher.contract.applications.Entry, mostly ``name``,
                                    ``root_url``, ``server_url``, ``backend``, and ``usher: false``
                                    if the application isn't built on Usher. The first application
                                    is the default
    USHER_SIGN_IN                   true; false restores the LMS's own sign-in and keeps the rest
    USHER_AUTHN_MICROFRONTEND       false switches the sign-in micro-frontend off; true leaves
                                    it as tutor-mfe has it. Sign-in works either way
    USHER_DEFAULT_APPLICATION       name of the application that /login redirects to; "": the first;
                                    ``choice``: the learner chooses
    USHER_REDIRECT_ANONYMOUS        false; true redirects anonymous visitors to the application
    USHER_ANONYMOUS_PATHS           regular expressions of paths open to anonymous visitors
    USHER_DIRECT_REGISTRATION       false; true lets people also register in the LMS itself
    USHER_SERVICE_WORKER_USERNAME, USHER_SERVICE_WORKER_EMAIL    the account that applications use
    USHER_SERVICE_WORKER_TOKEN      its access token; generated
    USHER_SECRET                    generated; ids and secrets that an entry doesn't state are
                                    derived from it, others for each application and purpose
    USHER_SUPERUSER_USERNAME, USHER_SUPERUSER_EMAIL    becomes a superuser; "": none
    USHER_SUPERUSER_APPLICATION     name of the application where superusers sign in; "": none
    USHER_HOST_ALIASES              further host names that resolve to this machine in containers
    USHER_REQUIREMENT               "" installs this package into the image, from a wheel in the
                                    build context; else a pip requirement: openedx-usher==1.0
    USHER_BACKEND_REQUIREMENTS      distributions of the sign-in backends

Rendered
    env/apps/openedx/config/usher.json   contract.provisioning.Description with every secret, 0600;
                                         /openedx/config/usher.json in the containers
    env/apps/openedx/config/lms.env.yml, env/apps/openedx/settings/lms/*.py   sign-in settings
    env/build/openedx/usher/*.whl        the wheel; env/build/openedx/Dockerfile installs it

Commands, for ``tutor local``, ``tutor dev`` and ``tutor k8s``
    do init --limit=usher           migrates usher.lms and provisions
    do usher-provision [--dry-run]  ``manage.py lms usher_provision``; its output ends in JSON
    do usher-report                 ``manage.py lms usher_report``; likewise
    do usher-remove [--purge] [--dry-run]   removes what usher-provision created
    do usher-link --username U --application NAME [--unlink]   links an existing LMS account
    do tests smoke                  Tutor's smoke tests, and those of ``usher.tutor.smoke``
    do usher-courses --owner EMAIL  two example courses, if missing
    do usher-send-events            ``manage.py lms usher_send_events``: sends due webhooks, deletes
                                    old rows; the LMS also does both after each change
"""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
import jinja2
from tutor import config as tutor_config
from tutor import exceptions, fmt, hooks
from tutor.types import Config

from usher.contract.applications import EntryError
from usher.contract.description import describe, lms_settings
from usher.tutor import commands, compose, configuration, description, files

HERE = Path(__file__).parent

hooks.Filters.CONFIG_UNIQUE.add_items(list(configuration.UNIQUE.items()))
hooks.Filters.CONFIG_DEFAULTS.add_items(list(configuration.DEFAULTS.items()))
hooks.Filters.ENV_TEMPLATE_ROOTS.add_item(str(HERE / "templates"))
hooks.Filters.CLI_DO_COMMANDS.add_items(commands.COMMANDS)
hooks.Filters.CLI_DO_INIT_TASKS.add_item(
    ("lms", (HERE / "templates/usher/jobs/init.sh").read_text())
)
if tests := getattr(hooks.Filters, "TESTS", None):  # Tutor 21.0.8 or newer
    tests.add_item(("lms", "smoke", str(HERE / "smoke" / "test_usher.py")))
for patch in sorted((HERE / "patches").iterdir()):
    # Patches of low priority are rendered last, so these override those of tutor-mfe.
    hooks.Filters.ENV_PATCHES.add_item(
        (patch.name, patch.read_text()), priority=hooks.priorities.LOW
    )


def _for_templates(function: Callable[[Config], Any]) -> Callable[..., Any]:
    """Returns a template function that calls ``function`` with the configuration and turns
    EntryError into TutorError."""

    @jinja2.pass_context
    @wraps(function)
    def template_function(context: jinja2.runtime.Context) -> Any:
        try:
            return function(context.get_all())
        except EntryError as error:
            raise exceptions.TutorError(str(error)) from error

    return template_function


def _description(config: Config) -> str:
    """Returns the content of ``usher.json``: the applications and the records that the LMS needs.
    Also saves the generated secrets, and protects the file before Tutor writes it."""
    text = describe(config).to_json()
    if root := _root():
        _save_secrets(root, config)
        files.protect_secrets(root)
    return text


def _save_secrets(root: Path, config: Config) -> None:
    """Saves the generated secrets that Tutor is rendering. ``tutor plugins enable`` does not save
    them, so the next command would generate others."""
    path = tutor_config.config_path(str(root))
    saved = tutor_config.get_yaml_file(path)
    if missing := {name: config[name] for name in configuration.UNIQUE if name not in saved}:
        tutor_config.save_config_file(str(root), {**saved, **missing})


def _wheel(_config: Config) -> str:
    """Returns the wheel's file name for the Dockerfile. Also writes the wheel, because the build
    of that Dockerfile copies it."""
    if root := _root():
        files.write_wheel(root)
    return files.wheel.filename()


hooks.Filters.ENV_TEMPLATE_VARIABLES.add_items(
    [
        ("usher_description", _for_templates(_description)),
        ("usher_lms_settings", _for_templates(lms_settings)),
        ("usher_requirements", _for_templates(description.requirements)),
        ("usher_wheel", _for_templates(_wheel)),
    ]
)


@hooks.Actions.COMPOSE_PROJECT_STARTED.add(priority=hooks.priorities.HIGH)
def _before_containers_start(root: str, config: Config, _project_name: str) -> None:
    try:
        compose.write_hosts(Path(root) / "env", description.host_aliases(config))
    except (EntryError, compose.ComposeError) as error:
        # Only an alert: the LMS starts without these host names, but can't reach the application.
        fmt.echo_alert(f"Usher: {error}")


# Tutor removes the plugin's hooks with priority HIGH; a smaller number runs earlier.
@hooks.Actions.PLUGIN_UNLOADED.add(priority=hooks.priorities.HIGH - 1)
def _remove_files(plugin: str, root: str, _config: Config) -> None:
    """Removes the files that only this plugin has, when it is disabled. Tutor renders the other
    files again."""
    if plugin == "usher":
        files.remove_files(Path(root))


@hooks.Filters.IMAGES_BUILD.add()
def _before_images_are_built(images: list[Any], config: Config) -> list[Any]:
    """Writes the wheel again, because the code may have changed since the Dockerfile was rendered.
    With USHER_REQUIREMENT, pip installs that requirement, and no wheel is needed."""
    if (root := _root()) and not config["USHER_REQUIREMENT"]:
        files.write_wheel(root)
    return images


@hooks.Filters.IMAGES_BUILD_REQUIRED.add()
def _build_on_launch(images: list[str], mode: str) -> list[str]:
    """Makes ``tutor local launch`` build the image, since the published image does not contain
    Usher."""
    return [*images, "openedx"] if mode == "local" and "openedx" not in images else images


def _root() -> Path | None:
    """Tutor's root, taken from the running command of Tutor, since hooks don't pass the root; None
    if no command is running."""
    context = click.get_current_context(silent=True)
    root = context.find_root().params.get("root") if context else None
    return Path(root) if root else None
