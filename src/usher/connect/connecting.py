"""The steps of ``usher connect``, in the order that keeps sign-in working until the end (P10)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from usher.connect import checks
from usher.connect.application.remote import Remote
from usher.connect.application.side import Addresses, Side, find
from usher.connect.before import RestartMark
from usher.connect.errors import NeedsPerson, StepFailed, ToolFailed
from usher.connect.openedx import configuration, leftovers, package
from usher.connect.openedx.configuration import Choice
from usher.connect.openedx.platform import ImageLacksUsher, Platform
from usher.connect.plan import Plan, Step
from usher.connect.process import Runner
from usher.contract.envfile import EnvFile
from usher.contract.provisioning import Application, Description


@dataclass(frozen=True)
class Options:
    """build: images may be built now. recreate: the application's containers may be re-created.
    superuser: (name, e-mail) of the LMS superuser to make, or None (P24)."""

    build: bool = False
    recreate: bool = True
    superuser: tuple[str, str] | None = None


class Connecting:
    """One platform, one application or several."""

    def __init__(
        self,
        platform: Platform,
        sides: list[tuple[Side, Choice]],
        addresses: Addresses,
        options: Options,
        runner: Runner,
    ) -> None:
        """sides: each application with its backend."""
        self._platform = platform
        self._sides = sides
        self._addresses = addresses
        self._options = options
        self._runner = runner
        self._running = False
        self._mark = RestartMark(platform.instance.root)

    def plan(self, facts: dict[str, str], *, running: bool) -> Plan:
        self._running = running
        platform = self._platform
        warnings = list(leftovers.found(platform.instance.root, platform.now.look))
        for side, _ in self._sides:
            if side.checkout.env_file and side.checkout.env_file.exists():
                warnings += [
                    f"{side.checkout.env_file}, {problem}"
                    for problem in EnvFile.read(side.checkout.env_file).problems()
                    if problem.serious
                ]
        return Plan(facts, self._steps(), warnings=warnings).look()

    def _steps(self) -> list[Step]:
        instance = self._platform.instance
        steps = [
            Step(
                "tutor-package",
                str(instance.python),
                "install openedx-usher into Tutor's environment",
                "Tutor finds plugins in its own Python only",
                lambda: bool(self._platform.now.look["installed"]),
                self._install,
            ),
            Step(
                "tutor-config",
                str(instance.config_file),
                f"name {self._names()} in {configuration.APPLICATIONS}",
                "the plugin makes everything else of it; survives 'tutor config save' (P25)",
                lambda: configuration.holds(instance.config_file, self._values()),
                self._configure,
            ),
            Step(
                "tutor-plugin",
                str(instance.root),
                "enable the plugin usher",
                "its patches replace the edits of P11 to P13",
                lambda: self._platform.now.enabled,
                self._enable,
            ),
            Step(
                "tutor-render",
                str(instance.root / "env"),
                "render Tutor's environment",
                "settings, image and the description of what the LMS must have",
                self._is_rendered,
                self._render,
            ),
        ]
        for side, _ in self._sides:
            if isinstance(side, Remote):
                steps.append(self._hand_over_step(side))
            steps.append(self._record_step(side))
        steps += [self._image_step(), self._provision_step()]
        for side, _ in self._sides:
            if side.checkout.env_file:
                steps += [self._env_step(side), *self._recreate_steps(side)]
        steps.append(self._restart_step())
        return steps

    # -- Tutor

    def _names(self) -> str:
        return " and ".join(side.name for side, _ in self._sides)

    def _values(self) -> dict[str, Any]:
        instance = self._platform.now
        entries = configuration.entries(instance.config_file, instance.look)
        for side, backend in self._sides:
            entries = configuration.with_entry(entries, side.entry(backend))
        values: dict[str, Any] = {configuration.APPLICATIONS: entries}
        if self._options.superuser:
            name, email = self._options.superuser
            values |= {"USHER_SUPERUSER_USERNAME": name, "USHER_SUPERUSER_EMAIL": email}
        return values

    def _install(self) -> str:
        package.install(self._platform.instance.python, self._runner)
        self._platform.forget()
        return "installed"

    def _configure(self) -> str:
        configuration.write(self._platform.instance.config_file, self._values())
        self._platform.forget()
        return "written"

    def _enable(self) -> str:
        # Tutor renders when a plugin is enabled.
        self._mark.set()
        self._platform.tutor("plugins", "enable", "usher")
        return "enabled"

    def _is_rendered(self) -> bool:
        return self._platform.now.enabled and not self._platform.now.look["stale"]

    def _render(self) -> str:
        self._mark.set()
        self._platform.tutor("config", "save")
        return "rendered"

    # -- the LMS

    def _image_step(self) -> Step:
        images = " and ".join(self._platform.images())
        return Step(
            "image",
            f"image {images}",
            "build the image with Usher in it",
            "backends and plugin belong into the image (P14, N5); takes 10 minutes to an hour",
            self._is_in_image,
            self._build,
        )

    def _is_in_image(self) -> bool:
        if not self._is_rendered():
            return False
        try:
            self._platform.preview()
        except ImageLacksUsher:
            return False
        except ToolFailed:
            # It is there and fails for another reason, such as tables that init makes.
            return True
        return True

    def _build(self) -> str:
        commands = [self._platform.shown("images", "build", i) for i in self._platform.images()]
        if not self._options.build:
            raise NeedsPerson(
                "image",
                "the LMS's image has no Usher yet. Building takes 10 minutes to an hour; either "
                f"run 'usher connect --build' or:\n  {' && '.join(commands)}\nthen run this again",
            )
        self._platform.build()
        return "built"

    def _provision_step(self) -> Step:
        return Step(
            "provision",
            self._platform.instance.lms_url,
            "service worker, token, provider record and OAuth application",
            "P2, P3, P5, P18 and P19, on the right site",
            self._is_provisioned,
            self._provision,
            trust_apply=True,
        )

    def _is_provisioned(self) -> bool:
        if not self._is_rendered():
            return False
        try:
            return self._platform.preview().get("changed") == 0
        except ToolFailed:
            return False

    def _provision(self) -> str:
        self._platform.provision()
        return "provisioned"

    def _restart_step(self) -> Step:
        command = "start" if self._platform.instance.command == "k8s" else "reboot"
        return Step(
            "restart",
            self._platform.instance.lms_url,
            f"{command} the LMS",
            "settings are read when it starts; from here on learners sign in by the application",
            self._is_in_force,
            self._restart,
            trust_apply=True,
        )

    def _is_in_force(self) -> bool:
        wanted = [self._wanted(side) for side, _ in self._sides]
        if self._mark.stands:
            return False
        return all(found and checks.leads_to(found, self._addresses) for found in wanted)

    def _restart(self) -> str:
        self._platform.restart(running=self._running)
        checks.wait_for_lms(self._addresses)
        self._mark.clear()
        return "up"

    # -- the applications

    def _record_step(self, side: Side) -> Step:
        return Step(
            f"record:{side.name}",
            f"{side.checkout.title}, OAuth2 application",
            "lay the record that the LMS signs in with",
            "id and secret made once and the same on both sides (P8); the printed one is a hash",
            lambda: self._with_wanted(side, lambda a: side.record_agrees(a, self._addresses)),
            lambda: side.lay_record(self._certain(side), self._addresses),
            trust_apply=True,
        )

    def _hand_over_step(self, side: Remote) -> Step:
        return Step(
            f"settings:{side.name}",
            str(side.hand_over_env),
            "write the settings to hand over",
            "they are for whoever runs the application, which can't be changed from here",
            lambda: self._with_description(lambda d: side.env_is_written(d, self._addresses)),
            lambda: side.write_env_to_hand_over(self._certain_description(), self._addresses),
        )

    def _env_step(self, side: Side) -> Step:
        return Step(
            f"env:{side.name}",
            str(side.checkout.env_file or "its settings"),
            "set the OPENEDX_* settings and LOGOUT_REDIRECT_URL",
            "P7, P20 and N1, agreeing with the LMS; comments and other lines stay, mode 0600",
            lambda: self._with_description(lambda d: side.env_agrees(self._env(side, d))),
            lambda: side.write_env(self._env(side, self._certain_description())),
        )

    def _recreate_steps(self, side: Side) -> list[Step]:
        if not side.checkout.compose:
            return []
        return [
            Step(
                f"recreate:{side.name}",
                f"{side.checkout.title}, containers",
                "re-create them: docker compose up -d",
                "a restarted container keeps its old environment (ENV-3)",
                lambda: self._with_description(lambda d: side.runs_with(self._env(side, d))),
                lambda: self._recreate(side),
                trust_apply=True,
            )
        ]

    def _recreate(self, side: Side) -> str:
        if not self._options.recreate:
            raise NeedsPerson(
                f"recreate:{side.name}",
                f"run 'docker compose up -d' in {side.checkout.folder}, then run this again",
            )
        side.recreate()
        checks.wait_for_application(side)
        return "up"

    def _env(self, side: Side, description: Description) -> dict[str, str]:
        return side.env_values(description, self._addresses)

    # -- the description, which exists once Tutor has rendered it

    def _description(self) -> Description | None:
        configured = configuration.holds(self._platform.instance.config_file, self._values())
        return self._platform.description() if configured and self._is_rendered() else None

    def _wanted(self, side: Side) -> Application | None:
        description = self._description()
        return find(description, side.name) if description else None

    def _certain_description(self) -> Description:
        description = self._description()
        if description is None:
            raise StepFailed("tutor-render", "the plugin's description was not rendered")
        return description

    def _certain(self, side: Side) -> Application:
        return find(self._certain_description(), side.name)

    def _with_wanted(self, side: Side, look: Callable[[Application], bool]) -> bool:
        application = self._wanted(side)
        return look(application) if application else False

    def _with_description(self, look: Callable[[Description], bool]) -> bool:
        description = self._description()
        return look(description) if description else False
