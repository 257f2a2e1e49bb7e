"""The plan of ``usher connect``, in an order that keeps sign-in working."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from usher.connect.application.target import Addresses, TargetApplication
from usher.connect.openedx import configuration
from usher.connect.openedx.configuration import BackendChoice
from usher.connect.openedx.embedded import EmbeddedLms
from usher.connect.openedx.platform import Platform
from usher.connect.plan import Plan, Step
from usher.connect.process import Runner
from usher.connect.steps.application import ApplicationSteps
from usher.connect.steps.configuration import ConfigurationSteps
from usher.connect.steps.embedded import EmbeddedLmsSteps, EmbeddedSteps
from usher.connect.steps.lms import LmsSteps, TutorLmsSteps
from usher.connect.steps.tutor import TutorSteps
from usher.contract.envfile import EnvFile


@dataclass(frozen=True)
class Options:
    """The operator's choices.

    build: returns whether images may be built now; called only if an image must be built;
    recreate: whether the application's containers may be re-created; superuser: whether the first
    application's superuser becomes a superuser in the LMS.
    """

    build: Callable[[], bool] = lambda: False
    recreate: bool = True
    superuser: bool = False


class Connecting:
    """Plans the connection of one or several applications to one LMS."""

    def __init__(
        self,
        lms: Platform | EmbeddedLms,
        targets: list[tuple[TargetApplication, BackendChoice]],
        addresses: Addresses,
        options: Options,
        runner: Runner,
    ) -> None:
        """targets: each application with its backend."""
        self._lms = lms
        self._targets = targets
        self._addresses = addresses
        self._options = options
        self._runner = runner

    def plan(self, facts: dict[str, str], *, running: bool) -> Plan:
        """Returns the plan; changes nothing. running: whether the LMS runs."""
        warnings = list(self._lms.leftovers())
        for target, _ in self._targets:
            warnings += _env_warnings(target)
        names = [target.name for target, _ in self._targets]
        configuration_steps, lms_steps, steps_before_records = self._steps_of_the_lms(
            names, running=running
        )
        steps = self._steps(configuration_steps, lms_steps, steps_before_records, names)
        plan = Plan(facts, steps, warnings=warnings).find_due()
        plan.warnings += lms_steps.warnings()
        if isinstance(lms_steps, TutorLmsSteps):
            lms_steps.may_run_jobs = True  # while the plan is applied; ``find_due`` ran none
        return plan

    def _steps_of_the_lms(
        self, names: list[str], *, running: bool
    ) -> tuple[ConfigurationSteps, LmsSteps, list[Step]]:
        """Returns the steps for the LMS's configuration, the steps for the LMS itself, and a list
        of the steps to apply before the LMS's records are created."""
        if isinstance(self._lms, EmbeddedLms):
            configuration_steps = EmbeddedSteps(self._lms, self._config_values)
            return (
                configuration_steps,
                EmbeddedLmsSteps(self._lms, configuration_steps, names, self._addresses),
                [],
            )
        tutor_steps = TutorSteps(self._lms, self._config_values, self._runner)
        lms_steps = TutorLmsSteps(
            tutor_steps, self._addresses, names, build=self._options.build, running=running
        )
        apply_steps = [lms_steps.apply_step()] if self._lms.in_cluster else []
        return tutor_steps, lms_steps, [*apply_steps, lms_steps.image_step()]

    def _steps(
        self,
        configuration_steps: ConfigurationSteps,
        lms_steps: LmsSteps,
        steps_before_records: list[Step],
        names: list[str],
    ) -> list[Step]:
        """Returns all steps in their order. steps_before_records: to apply before the LMS's records
        are created; names: of all applications."""
        all_application_steps = [
            ApplicationSteps(
                target, configuration_steps, self._addresses, recreate=self._options.recreate
            )
            for target, _ in self._targets
        ]
        steps: list[Step] = []
        if self._options.superuser:
            steps.append(self._superuser_step())
        steps += configuration_steps.steps(" and ".join(names))
        for application_steps in all_application_steps:
            steps += application_steps.record_steps()
        steps += steps_before_records
        steps.append(lms_steps.provision_step())
        for application_steps in all_application_steps:
            steps += application_steps.settings_steps()
        if not self._lms.in_cluster:
            steps.append(lms_steps.restart_step())
        return steps

    @property
    def _superuser_target(self) -> TargetApplication:
        """The first application, whose superuser becomes one in the LMS."""
        target, _ = self._targets[0]
        return target

    def _superuser_step(self) -> Step:
        target = self._superuser_target
        return Step(
            id=f"superuser:{target.name}",
            where=f"{target.checkout.title}, accounts",
            what="reserve the superuser's username in the LMS",
            reason="a learner could get this username in the LMS before it is reserved",
            is_done=lambda: bool(target.superuser.username),
            apply=target.reserve_superuser,
        )

    def _config_values(self) -> dict[str, Any]:
        """Returns the keys and values that config.yml must have. Raises Refused."""
        entries = self._lms.application_entries()
        in_containers = not isinstance(self._lms, EmbeddedLms)
        for target, backend in self._targets:
            entry = target.make_entry(backend, lms_in_containers=in_containers)
            entries = configuration.with_entry(entries, entry)
        entries = configuration.entries_with_workers(entries)
        values: dict[str, Any] = {configuration.APPLICATIONS: entries}
        if isinstance(self._lms, EmbeddedLms):
            values |= self._lms.generated_secrets()
        if self._options.superuser:
            superuser = self._superuser_target.superuser
            values |= {
                configuration.SUPERUSER: superuser.username,
                configuration.SUPERUSER_EMAIL: superuser.email,
                configuration.SUPERUSER_APPLICATION: self._superuser_target.name,
            }
        # Checked while planning, so that invalid values are refused before the first change.
        return configuration.require_safe(values)


def _env_warnings(target: TargetApplication) -> list[str]:
    """Returns a warning for each line of the ``.env`` with which a setting is lost or wrong for a
    program; other problems of lines are left out."""
    path = target.checkout.env_file
    if path is None or not path.exists():
        return []
    return [f"{path}, {problem}" for problem in EnvFile.read(path).problems() if problem.serious]
