"""Plans: ordered lists of steps, of which ``apply`` executes those that are still needed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from usher.connect.errors import ConnectError, Refused, StepFailed
from usher.contract import envfile
from usher.contract.envfile import EnvFileError


@dataclass(frozen=True)
class Step:
    """One change.

    id: stable, for machines; where: the thing that changes; what: what ``apply`` does, for people;
    reason: why it is necessary, for people; is_done: returns whether the change is already made,
    and changes nothing; apply: makes the change and returns a description of it; trust_apply: do
    not call ``is_done`` after ``apply``, because it would be slow or come too early; details:
    returns lines to show with the plan; file: a file that ``apply`` replaces.
    """

    id: str
    where: str
    what: str
    reason: str
    is_done: Callable[[], bool]
    apply: Callable[[], str]
    trust_apply: bool = False
    details: Callable[[], list[str]] = list
    file: Path | None = None


@dataclass(frozen=True)
class Check:
    """The result of one check of the running connection.

    outcome: ok, warning (a fault, but not of the connection), failed or skipped; seen: the
    observation; fix: the remedy.
    """

    id: str
    outcome: str
    seen: str
    fix: str = ""


@dataclass
class Plan:
    """An ordered list of steps. facts: shown above the plan; due: ids of the steps that were needed
    when the plan was made."""

    facts: dict[str, str]
    steps: list[Step]
    due: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)

    def find_due(self) -> "Plan":
        """Determines which steps are due and returns the plan itself.

        A step that depends on an earlier due step may be impossible to check yet; its ``is_done``
        then returns False. Raises Refused if the file of a due step can't be written.
        """
        self.due = {step.id for step in self.steps if not step.is_done()}
        for step in self.steps:
            if step.id not in self.due or step.file is None:
                continue
            error = envfile.why_not_writable(step.file)
            if error is not None:
                raise Refused(str(error))
        return self

    def as_data(self) -> dict[str, Any]:
        return {
            "facts": self.facts,
            "warnings": self.warnings,
            "changes": [  # all steps, also those that are not due
                {
                    "id": step.id,
                    "where": step.where,
                    "what": step.what,
                    "details": step.details(),
                    "reason": step.reason,
                    "due": step.id in self.due,
                }
                for step in self.steps
            ],
        }


class Progress(Protocol):
    """Receives an event before and after each step of a plan."""

    def start_step(self, step: Step, number: int, total: int) -> None: ...

    def finish_step(self, step: Step, changed: bool, result: str) -> None: ...


def apply(plan: Plan, progress: Progress) -> list[str]:
    """Applies the due steps in order and returns the ids of those that changed something.

    The plan must have been made just now. After the first change, each step is checked again
    before it is applied. Raises StepFailed at the first step that fails; earlier steps are kept.
    """
    changed_ids: list[str] = []
    for number, step in enumerate(plan.steps, start=1):
        progress.start_step(step, number, len(plan.steps))
        try:
            is_due = not step.is_done() if changed_ids else step.id in plan.due
            result = step.apply() if is_due else "already so"
            if is_due and not step.trust_apply and not step.is_done():
                raise StepFailed(
                    step.id, f"{step.what}: done ({result}), but a check finds no change"
                )
        except StepFailed:
            raise
        except (ConnectError, OSError, EnvFileError) as error:
            raise StepFailed(step.id, f"{step.what}: {error}") from error
        if is_due:
            changed_ids.append(step.id)
        progress.finish_step(step, changed=is_due, result=result)
    return changed_ids
