"""One application: its OAuth2 record, its ``.env``, its containers."""

from collections.abc import Callable

from usher.connect import checks
from usher.connect.application.remote import Remote
from usher.connect.application.side import Addresses, Side, find
from usher.connect.errors import NeedsPerson
from usher.connect.plan import Step
from usher.connect.steps.place import PlaceSteps
from usher.contract.environment import SECRET_KEYS
from usher.contract.provisioning import Description


class ApplicationSteps:
    """recreate: its containers may be re-created."""

    def __init__(
        self, side: Side, place: PlaceSteps, addresses: Addresses, *, recreate: bool
    ) -> None:
        self._side = side
        self._place = place
        self._addresses = addresses
        self._recreate_now = recreate

    def record(self) -> list[Step]:
        """Returns the steps to apply before the LMS knows the application."""
        side = self._side
        step = Step(
            f"record:{side.name}",
            f"{side.checkout.title}, OAuth2 application",
            "create the OAuth2 application that the LMS signs in with",
            "it holds the LMS's client id, secret and redirect URI",
            self._known(lambda d: side.record_agrees(find(d, side.name), self._addresses)),
            lambda: side.write_record(
                find(self._place.certain_description(), side.name), self._addresses
            ),
            trust_apply=True,
        )
        return [self._hand_over(side), step] if isinstance(side, Remote) else [step]

    def settings(self) -> list[Step]:
        """Returns the steps to apply after the LMS knows the application."""
        side = self._side
        if not side.checkout.env_file:
            return []
        steps = [
            Step(
                f"env:{side.name}",
                str(side.checkout.env_file),
                "write its settings",
                "they name the LMS's addresses and the application's ids and secrets there; other "
                "lines stay as they are, mode 0600",
                self._known(lambda d: side.env_agrees(self._env(d))),
                lambda: side.write_env(self._env(self._place.certain_description())),
                details=self._settings_named,
            )
        ]
        if side.checkout.compose:
            steps.append(
                Step(
                    f"recreate:{side.name}",
                    f"{side.checkout.title}, containers",
                    "re-create them: docker compose up -d",
                    "a restarted container keeps its old environment",
                    self._known(lambda d: side.runs_with(self._env(d))),
                    self._recreate,
                    trust_apply=True,
                )
            )
        return steps

    def _settings_named(self) -> list[str]:
        """Returns every line that will change, without secrets."""
        side = self._side
        description = self._described()
        if description:
            values = self._env(description)
        else:
            values = side.planned_env(self._addresses) | side.needed
        example = "   (an example, because it does not start without a value; replace it)"
        return [
            f"{key}={'(secret)' if key in SECRET_KEYS else values[key]}"
            + (example if key in side.needed else "")
            for key in side.differing(values)
        ]

    def _hand_over(self, side: Remote) -> Step:
        return Step(
            f"settings:{side.name}",
            str(side.hand_over_env),
            "write the settings into a file for its operator",
            "the application can't be changed from here",
            self._known(lambda d: side.env_is_written(d, self._addresses)),
            lambda: side.write_env_to_hand_over(self._place.certain_description(), self._addresses),
        )

    def _recreate(self) -> str:
        side = self._side
        if not self._recreate_now:
            raise NeedsPerson(
                f"recreate:{side.name}",
                f"run 'docker compose up -d' in {side.checkout.folder}, then run this again",
            )
        side.recreate()
        checks.wait_for_application(side)
        return "up"

    def _env(self, description: Description) -> dict[str, str]:
        return self._side.env_values(description, self._addresses) | self._side.needed

    def _known(self, look: Callable[[Description], bool]) -> Callable[[], bool]:
        """Returns ``look`` as a function that returns False while there is no description."""

        def looked() -> bool:
            description = self._described()
            return look(description) if description else False

        return looked

    def _described(self) -> Description | None:
        """Returns the description, or the one that earlier steps of the plan will render."""
        return self._place.description() or self._place.planned_description()
