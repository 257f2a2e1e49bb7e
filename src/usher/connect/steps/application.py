"""One application: its OAuth2 record, its ``.env``, its containers."""

from collections.abc import Callable

from usher.connect import checks
from usher.connect.application.remote import RemoteApplication
from usher.connect.application.target import Addresses, TargetApplication, find_application
from usher.connect.errors import NeedsPerson
from usher.connect.plan import Step
from usher.connect.steps.configuration import ConfigurationSteps
from usher.contract.environment import SECRET_KEYS
from usher.contract.provisioning import Description


class ApplicationSteps:
    """The steps for one application. recreate: whether its containers may be re-created."""

    def __init__(
        self,
        target: TargetApplication,
        configuration_steps: ConfigurationSteps,
        addresses: Addresses,
        *,
        recreate: bool,
    ) -> None:
        self._target = target
        self._configuration = configuration_steps
        self._addresses = addresses
        self._may_recreate = recreate

    def record_steps(self) -> list[Step]:
        """Returns the steps to apply before the LMS knows the application."""
        target = self._target
        verb = "update" if target.facts.get("record") else "create"
        step = Step(
            id=f"record:{target.name}",
            where=f"{target.checkout.title}, OAuth client",
            what=f"{verb} the OAuth client with which the LMS signs learners in",
            reason="it holds the LMS's client id, secret and redirect URI",
            is_done=self._with_description(
                lambda description: target.record_agrees(
                    find_application(description, target.name), self._addresses
                )
            ),
            apply=lambda: target.write_record(
                find_application(self._configuration.description_or_error(), target.name),
                self._addresses,
            ),
            # The script that writes the record reports what it did.
            trust_apply=True,
        )
        if isinstance(target, RemoteApplication):
            # The hand-over comes first, because the other step always stops the plan: a person has
            # to run its script on the other machine.
            return [self._hand_over_step(target), step]
        return [step]

    def settings_steps(self) -> list[Step]:
        """Returns the steps to apply after the LMS knows the application."""
        target = self._target
        if not target.checkout.env_file:
            return []  # its operator gets the settings in a file: see ``record_steps``
        steps = [
            Step(
                id=f"env:{target.name}",
                where=str(target.checkout.env_file),
                what="write the application's settings",
                reason=(
                    "they are the LMS's addresses and the application's ids and secrets in the "
                    "LMS; other lines stay as they are, and the file gets mode 0600"
                ),
                is_done=self._with_description(
                    lambda description: target.env_agrees(self._expected_env(description))
                ),
                apply=lambda: target.write_env(
                    self._expected_env(self._configuration.description_or_error())
                ),
                details=self._changed_lines,
                file=target.checkout.env_file,
            )
        ]
        if target.checkout.compose:
            steps.append(
                Step(
                    id=f"recreate:{target.name}",
                    where=f"{target.checkout.title}, containers",
                    what="re-create the containers: docker compose up -d",
                    reason="a restarted container keeps its old environment",
                    is_done=self._with_description(
                        lambda description: target.runs_with(self._expected_env(description))
                    ),
                    apply=self._recreate,
                    trust_apply=True,
                )
            )
        return steps

    def _changed_lines(self) -> list[str]:
        """Returns every line of the ``.env`` that will change, without secrets."""
        target = self._target
        description = self._description_or_planned()
        if description:
            values = self._expected_env(description)
        else:
            values = target.planned_env(self._addresses) | target.new_example_values
        note = "   (an example: the application needs a value to start; replace it)"
        return [
            f"{key}={'(secret)' if key in SECRET_KEYS else values[key]}"
            + (note if key in target.new_example_values else "")
            for key in target.differing_keys(values)
        ]

    def _hand_over_step(self, target: RemoteApplication) -> Step:
        """Returns the step that writes the settings of an application that can't be changed from
        here."""
        return Step(
            id=f"settings:{target.name}",
            where=str(target.hand_over_env),
            what="write the settings into a file for the application's operator",
            reason="the application can't be changed from here",
            is_done=self._with_description(
                lambda description: target.env_is_written(description, self._addresses)
            ),
            apply=lambda: target.write_env_to_hand_over(
                self._configuration.description_or_error(), self._addresses
            ),
        )

    def _recreate(self) -> str:
        """Re-creates the containers and waits for the application. Raises NeedsPerson if the
        operator doesn't allow it."""
        target = self._target
        if not self._may_recreate:
            raise NeedsPerson(
                f"recreate:{target.name}",
                f"run 'docker compose up -d' in {target.checkout.folder}, then run this command "
                "again",
            )
        target.recreate()
        checks.wait_for_application(target)
        return "up"

    def _expected_env(self, description: Description) -> dict[str, str]:
        return (
            self._target.env_values(description, self._addresses) | self._target.new_example_values
        )

    def _with_description(self, check: Callable[[Description], bool]) -> Callable[[], bool]:
        """Returns ``check`` as a function that returns False while there is no description."""

        def check_description() -> bool:
            description = self._description_or_planned()
            return check(description) if description else False

        return check_description

    def _description_or_planned(self) -> Description | None:
        """Returns the description of the LMS's records as it is, or as earlier steps of the plan
        will render it; None if neither is known."""
        return self._configuration.description() or self._configuration.planned_description()
