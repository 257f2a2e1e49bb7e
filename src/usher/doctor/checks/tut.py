"""Tutor: its command, its root, its rendered files, its images."""

import re
import shlex
import sys

import yaml

from usher.doctor.check import Check, Finding, check, failed, ok, skipped, warning
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.facts.tutor import describe_yaml_error
from usher.doctor.facts.web import host_of, same_origin
from usher.doctor.fixes import LMS_PACKAGES

#: The supported releases of Tutor, by the first part of their number.
_SUPPORTED = range(20, 23)
_ENABLE_PLUGIN = "tutor plugins enable usher && tutor config save"


@check
class TutorIsSupported(Check):
    """Tutor is installed, in a supported release.

    Symptom: `tutor` is not found, or does not know a command.
    Cause: another virtual environment is active, or the release is older or newer.
    Fix: install a supported release in Tutor's own virtual environment.
    """

    id = "TUT-1"

    def probe(self, context: Context) -> Finding:
        version = context.tutor.version
        number = re.match(r"\d+", version)
        supported = f"{_SUPPORTED[0]} to {_SUPPORTED[-1]}"
        fix = f"{sys.executable} -m pip install 'tutor[full]>={_SUPPORTED[0]},<{_SUPPORTED.stop}'"
        if not number:
            return failed(
                "the command tutor is not found",
                cause="Tutor is not installed, or its virtual environment is not active",
                fix=fix,
            )
        if int(number[0]) not in _SUPPORTED:
            return failed(
                f"the installed release is tutor {version}",
                cause=f"Usher supports Tutor {supported}",
                fix=fix,
            )
        return ok(f"tutor {version}")


@check
class TutorRootIsInUse(Check):
    """The Tutor root is that of the LMS in use.

    Symptom: Tutor's commands do not change the LMS that the application calls.
    Cause: there are several Tutor roots, and the commands used the root of another LMS.
    Fix: set TUTOR_ROOT to the root of that LMS, or pass `--root` to each command.
    """

    id = "TUT-2"
    depends_on = ("TUT-1", "TUT-7")

    def probe(self, context: Context) -> Finding:
        root = context.tutor.root
        default_root = context.tutor.default_root
        lms_url = context.tutor.lms_url
        try:
            api_url = context.api_url
        except NotKnownError:
            api_url = ""
        has_same_host = host_of(api_url) == context.tutor.lms_host
        if api_url and not has_same_host and not same_origin(api_url, lms_url):
            return failed(
                f"{root} is for {lms_url}, but the application calls {api_url}",
                cause="this Tutor root belongs to another LMS",
                fix="usher doctor --tutor-root <the root of that LMS>",
            )
        if root is not None and default_root.resolve() != root.resolve():
            return warning(
                f"tutor without --root uses {default_root}, but the root of this LMS is {root}",
                cause="there are several Tutor roots; a command without --root uses the other one",
                fix=f"export TUTOR_ROOT={shlex.quote(str(root))}",
            )
        return ok(f"{root}, for {lms_url}")


@check
class PluginIsEnabled(Check):
    """The Tutor plugin is enabled.

    Symptom: the settings are gone after `tutor config save`.
    Cause: settings were edited into generated files, which Tutor writes again.
    Fix: enable the plugin, which keeps these settings.
    """

    id = "TUT-3"
    depends_on = ("TUT-1", "TUT-2", "TUT-7")

    def probe(self, context: Context) -> Finding:
        if context.tutor.plugin_enabled:
            return ok("the plugin usher is enabled")
        if hand_edited := context.tutor.hand_edited_files:
            seen = f"the plugin is not enabled, and {hand_edited[0]} was edited by hand"
        else:
            seen = "the plugin usher is not enabled"
        return failed(
            seen,
            cause="Tutor overwrites its generated files at every `tutor config save`",
            fix=_ENABLE_PLUGIN,
        )


@check
class RenderedSettingsAreInUse(Check):
    """The running LMS uses the rendered settings.

    Symptom: the plugin is enabled, but its settings have no effect.
    Cause: since the plugin was enabled, the environment was not rendered, the containers were not
    restarted, or the image was not built.
    Fix: render, restart or build, as the finding says.
    """

    id = "TUT-4"
    depends_on = ("TUT-3",)

    def probe(self, context: Context) -> Finding:
        if not context.tutor.has_rendered_plugin:
            return failed(
                f"{context.tutor.lms_env_file} has none of the settings of the plugin",
                cause="the environment was rendered before the plugin was enabled",
                fix="tutor config save",
            )
        report = context.lms.report
        # Without a list of packages it is not known that the package is missing.
        if "packages" in report and "openedx-usher" not in report["packages"]:
            return failed(
                "the running LMS does not have the package openedx-usher",
                cause="its image was built before the plugin was enabled",
                fix="tutor images build openedx",
            )
        if not report.get("features", {}).get("ENABLE_THIRD_PARTY_AUTH", True):
            return failed(
                "third-party sign-in is on in the rendered files, but off in the running LMS",
                cause="the containers were started with older files",
                fix="tutor local restart lms lms-worker",
            )
        return ok("rendered, built and running settings are the same")


@check
class BackendsCanBeImported(Check):
    """The sign-in backends can be imported in the LMS.

    Symptom: import error of the backend in the LMS.
    Cause: the requirement is missing from this image; dev and local have different ones.
    Fix: build the image of this mode: `tutor images build openedx`, or `openedx-dev` for dev.
    """

    id = "TUT-5"
    depends_on = ("TUT-7",)

    def probe(self, context: Context) -> Finding:
        backends = context.lms.report.get("backends", [])
        broken = [row for row in backends if row.get("error")]
        if broken:
            return failed(
                f"{broken[0].get('class_path')} can't be imported: {broken[0].get('error')}",
                cause="a package that it needs is missing in this LMS",
                fix=LMS_PACKAGES,
            )
        if not backends:
            return skipped("the LMS has no sign-in backend of an application")
        return ok(f"{', '.join(str(row.get('name')) for row in backends)} can be imported")


@check
class PinnedVersionsAreInstalled(Check):
    """No requirement has displaced a version that the platform pins.

    Symptom: other packages fail after the sign-in backends were installed.
    Cause: a requirement installed an older version of a common package (attrs).
    Fix: install the backends without their dependencies, as the plugin does.
    """

    id = "TUT-6"

    def probe(self, context: Context) -> Finding:
        if "package_conflicts" not in context.lms.report:
            raise NotKnownError("the LMS does not report package conflicts")
        conflicts = context.lms.report["package_conflicts"]
        if conflicts:
            more = f" (and {len(conflicts) - 1} more)" if len(conflicts) > 1 else ""
            if context.tutor.has_root:
                fix = (
                    "remove it from OPENEDX_EXTRA_PIP_REQUIREMENTS, then: tutor images build "
                    "openedx"
                )
            else:
                fix = f"{LMS_PACKAGES} again, in the versions that the platform pins"
            return failed(
                f"{conflicts[0]}{more}",
                cause="a package was installed with dependencies that displace the platform's",
                fix=fix,
            )
        return ok("the LMS's packages fit together")


@check
class LmsEnvIsValidYaml(Check):
    """lms.env.yml is valid YAML.

    Symptom: the LMS does not start, with a YAML error.
    Cause: the generated file was edited by hand, for example with tabs.
    Fix: run `tutor config save`, which writes the file again.
    """

    id = "TUT-7"

    def probe(self, context: Context) -> Finding:
        for path in (context.tutor.root_file("config.yml"), context.tutor.lms_env_file):
            if not path.is_file():
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
            try:
                yaml.safe_load(text)
            except yaml.YAMLError as error:
                is_configuration = path.name == "config.yml"
                return failed(
                    f"{path} can't be read: {describe_yaml_error(error)}",
                    cause="it was edited by hand; YAML does not allow tabs",
                    fix=f"correct that line of {path}" if is_configuration else "tutor config save",
                )
        return ok("config.yml and lms.env.yml are YAML")


@check
class NothingIsInstalledByHand(Check):
    """Nothing was installed in the container by hand.

    Symptom: sign-in worked yesterday. Today there is an import error, or the LMS shows its own
    sign-in form.
    Cause: a package was installed in a running container, or settings are in
    `lms/envs/private.py`: the package is gone when the container is re-created, and these
    settings override the plugin's.
    Fix: build the package into the image; remove private.py.
    """

    id = "TUT-8"
    depends_on = ("TUT-7",)

    def probe(self, context: Context) -> Finding:
        report = context.lms.report
        if report.get("private_settings"):
            return failed(
                "the LMS has settings in lms/envs/private.py",
                cause="these settings replace the plugin's, and are lost with the mounted folder",
                fix="mv lms/envs/private.py lms/envs/private.py.old, then restart the LMS",
            )
        packages = report.get("packages_outside_image", [])
        # If even Django was installed in the container, the LMS was set up there, without an image.
        if packages and "django" not in packages:
            if context.tutor.has_root:
                fix = "add them to OPENEDX_EXTRA_PIP_REQUIREMENTS, then: tutor images build openedx"
            else:
                fix = "add them to the image that this LMS is started from"
            return failed(
                f"{', '.join(packages)} installed in the running container",
                cause="packages installed by hand are lost when the container is re-created",
                fix=fix,
            )
        if "private_settings" not in report:
            raise NotKnownError("the LMS does not report private settings")
        return ok("no private.py, no package installed by hand")
