"""The LMS: Usher in its image, its records, and the restart that switches sign-in over."""

from collections.abc import Callable

from usher.connect import checks
from usher.connect.application.target import Addresses
from usher.connect.errors import NeedsPerson, ToolFailed
from usher.connect.openedx.platform import ImageLacksUsher, NotRunning
from usher.connect.plan import Step
from usher.connect.steps.configuration import ConfigurationSteps
from usher.connect.steps.tutor import TutorSteps


class LmsSteps:
    """The steps for the LMS. names: the applications that learners will sign in through; running:
    whether the LMS runs."""

    def __init__(
        self,
        configuration_steps: ConfigurationSteps,
        addresses: Addresses,
        names: list[str],
        *,
        running: bool,
    ) -> None:
        self._configuration = configuration_steps
        self._lms = configuration_steps.lms
        self._addresses = addresses
        self._names = names
        self._running = running

    # -- records

    def provision_step(self) -> Step:
        return Step(
            id="provision",
            where=self._lms.lms_url,
            what="create service worker, its token, provider record and OAuth clients",
            reason=(
                "the LMS signs in through the provider record; the application uses the LMS's API "
                "as an OAuth client and with the service worker's token"
            ),
            is_done=self._is_provisioned,
            apply=self._provision,
            trust_apply=True,
        )

    def _is_provisioned(self) -> bool:
        """Whether provisioning would change nothing; False if the LMS can't be asked."""
        if not self._jobs_can_run():
            return False
        try:
            return self._lms.preview().get("changed") == 0
        except ToolFailed:
            return False

    def _provision(self) -> str:
        report = self._lms.provision()
        # "kept": an account that Usher did not create, and that stays as it is.
        changes = [item for item in report["items"] if item["outcome"] not in ("unchanged", "kept")]
        outcomes = [f"{item['what']} {item['outcome']}" for item in changes]
        return "; ".join([", ".join(outcomes) or "nothing differed", *report["warnings"]])

    def _jobs_can_run(self) -> bool:
        """Whether the LMS can be asked about its records."""
        return self._configuration.is_rendered()

    def warnings(self) -> list[str]:
        """Returns sentences about tasks that provisioning leaves to the operator."""
        try:
            return list(self._lms.preview()["warnings"]) if self._jobs_can_run() else []
        except ToolFailed:
            return []

    # -- settings in force

    def restart_step(self) -> Step:
        return Step(
            id="restart",
            where=self._lms.lms_url,
            what="reboot the LMS",
            reason="the LMS reads settings when it starts; afterwards learners sign in through the "
            "application",
            is_done=self._is_in_force,
            apply=self._restart,
            trust_apply=True,
        )

    def _is_in_force(self) -> bool:
        """Whether the running LMS uses the rendered settings: it sends learners to each application
        to sign in, and no restart is due."""
        description = self._configuration.description()
        if description is None or self._configuration.restart_mark.is_set:
            return False
        applications = [
            application
            for application in description.applications
            if application.name in self._names
        ]
        return all(
            checks.lms_leads_to(application, self._addresses) for application in applications
        )

    def _restart(self) -> str:
        self._lms.restart(running=self._running)
        checks.wait_for_lms(self._addresses)
        self._configuration.restart_mark.clear()
        return "up"


class TutorLmsSteps(LmsSteps):
    """The LMS's steps in Tutor. build: returns whether images may be built now."""

    def __init__(
        self,
        tutor: TutorSteps,
        addresses: Addresses,
        names: list[str],
        *,
        build: Callable[[], bool],
        running: bool,
    ) -> None:
        super().__init__(tutor, addresses, names, running=running)
        self._platform = tutor.platform
        self._may_build = build
        #: False while a plan is made: a job starts databases and builds missing images.
        self.may_run_jobs = False

    def _jobs_can_run(self) -> bool:
        """Whether a job can run. In a cluster, a job would wait forever for a ConfigMap that was
        not applied."""
        return self._configuration.is_rendered() and (
            not self._platform.in_cluster or self._platform.is_applied()
        )

    # -- image

    def image_step(self) -> Step:
        return Step(
            id="image",
            where=f"image {' and '.join(self._platform.images())}",
            what="build the image with Usher in it",
            reason="the LMS needs its backends and plugin; takes 10 minutes to an hour",
            is_done=self._is_in_image,
            apply=self._build,
            # Until the restart the LMS runs the old image, so ``is_done`` would need a job.
            trust_apply=True,
        )

    def _is_in_image(self) -> bool:
        """Whether Usher is in the image.

        Asks the running LMS. If the LMS isn't running, or runs an image without Usher, a job
        examines the image. Jobs run only after the operator has confirmed the plan.
        """
        if not self._jobs_can_run():
            return False
        try:
            self._platform.preview()
        except (ImageLacksUsher, NotRunning):
            return self.may_run_jobs and self._platform.has_usher_in_image()
        except ToolFailed:
            # Usher is in the image, but its command fails, for example without its tables.
            return True
        return True

    def warnings(self) -> list[str]:
        """Also returns a warning if the LMS is stopped, because the plan may have needless steps
        then."""
        lines = super().warnings()
        if self._jobs_can_run() and self._is_stopped():
            lines.append(
                "the LMS isn't running, so its image and its records can't be examined yet; later "
                "connect will skip a step if its change is made already"
            )
        return lines

    def _is_stopped(self) -> bool:
        """Whether the LMS isn't running; False also if it runs and reports an error."""
        try:
            self._platform.preview()
        except NotRunning:
            return True
        except ToolFailed:
            return False
        return False

    def _build(self) -> str:
        """Builds the image if the operator allows it. Raises NeedsPerson with the commands that are
        left to the operator: the build if it isn't allowed, and in a cluster the push."""
        if self._platform.has_usher_in_image():
            return "Usher is in the image"
        may_build = self._may_build()
        if may_build:
            self._platform.build()
            self._configuration.restart_mark.set()  # containers of the old image may run
            if not self._platform.in_cluster:
                return "built"
        images = self._platform.images()
        commands = [] if may_build else [self._platform.as_typed("images", "build", *images)]
        if self._platform.in_cluster:
            commands += [
                self._platform.as_typed("images", "push", *images),
                self._platform.as_typed("k8s", "reboot"),
            ]
        alternative = "" if may_build else ", or add --build, which takes up to an hour"
        raise NeedsPerson(
            "image",
            "the LMS's image has no Usher yet. Run\n  "
            + "\n  ".join(commands)
            + f"\nthen run this command again{alternative}",
        )

    # -- k8s

    def apply_step(self) -> Step:
        """Returns the step that applies the rendered configuration to the cluster.

        Jobs mount the configuration that was applied last, so this step precedes the jobs.
        """
        return Step(
            id="apply",
            where=f"namespace {self._platform.instance.report['values']['K8S_NAMESPACE']}",
            what="apply the rendered configuration: tutor k8s start",
            reason=(
                "jobs and the LMS read their settings from the applied configuration; Kubernetes "
                "replaces the pods"
            ),
            is_done=self._jobs_can_run,
            apply=self._apply,
        )

    def _apply(self) -> str:
        self._platform.restart(running=self._running)
        self._configuration.restart_mark.clear()
        return "applied"
