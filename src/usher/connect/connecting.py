"""The plan of ``usher connect``, in an order that keeps sign-in working."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from usher.connect.application.side import Addresses, Side
from usher.connect.openedx import configuration, leftovers
from usher.connect.openedx.configuration import Choice
from usher.connect.openedx.platform import Platform
from usher.connect.plan import Plan, Step
from usher.connect.process import Runner
from usher.connect.steps.application import ApplicationSteps
from usher.connect.steps.lms import LmsSteps
from usher.connect.steps.tutor import TutorSteps
from usher.contract.envfile import EnvFile


@dataclass(frozen=True)
class Options:
    """build: asked, once there is no other way, whether images may be built now. recreate: the
    application's containers may be re-created. superuser: the first application's is to be one
    of the LMS as well."""

    build: Callable[[], bool] = lambda: False
    recreate: bool = True
    superuser: bool = False


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

    def plan(self, facts: dict[str, str], *, running: bool) -> Plan:
        """running: whether the platform runs. Nothing is changed by planning."""
        instance = self._platform.now
        warnings = list(leftovers.found(instance.root, instance.look))
        for side, _ in self._sides:
            warnings += _env_warnings(side)
        names = [side.name for side, _ in self._sides]
        tutor = TutorSteps(self._platform, self._values, self._runner)
        lms = LmsSteps(tutor, self._addresses, names, build=self._options.build, running=running)
        plan = Plan(facts, self._steps(tutor, lms, names), warnings=warnings).look()
        plan.warnings += lms.warnings()
        return plan

    def _steps(self, tutor: TutorSteps, lms: LmsSteps, names: list[str]) -> list[Step]:
        applications = [
            ApplicationSteps(side, tutor, self._addresses, recreate=self._options.recreate)
            for side, _ in self._sides
        ]
        return [
            *([self._superuser_step()] if self._options.superuser else []),
            *tutor.steps(" and ".join(names)),
            *[step for application in applications for step in application.record()],
            *([lms.apply()] if self._platform.in_cluster else []),
            lms.image(),
            lms.provision(),
            *[step for application in applications for step in application.settings()],
            *([] if self._platform.in_cluster else [lms.restart()]),
        ]

    def _superuser_step(self) -> Step:
        side = self._sides[0][0]
        return Step(
            f"superuser:{side.name}",
            f"{side.checkout.title}, accounts",
            "reserve its superuser's name in the LMS",
            "a name that nobody has yet could become another learner's",
            lambda: bool(side.superuser[0]),
            side.reserve_superuser,
        )

    def _values(self) -> dict[str, Any]:
        """What config.yml must hold, whatever else it holds."""
        instance = self._platform.now
        entries = configuration.entries(instance.config_file, instance.look)
        for side, backend in self._sides:
            entries = configuration.with_entry(entries, side.entry(backend))
        entries = configuration.with_own_workers(entries)
        values: dict[str, Any] = {configuration.APPLICATIONS: entries}
        if self._options.superuser:
            name, email = self._sides[0][0].superuser
            values |= {
                configuration.SUPERUSER: name,
                configuration.SUPERUSER_EMAIL: email,
                configuration.SUPERUSER_APPLICATION: self._sides[0][0].name,
            }
        # Here already, so that what can't be written is refused before anything is changed.
        return configuration.checked(values)


def _env_warnings(side: Side) -> list[str]:
    """Lines of the ``.env`` that programs read differently."""
    path = side.checkout.env_file
    if path is None or not path.exists():
        return []
    return [f"{path}, {found}" for found in EnvFile.read(path).problems() if found.serious]
