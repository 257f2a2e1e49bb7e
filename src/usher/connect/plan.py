"""A plan is a list of steps; applying it examines each in turn and does those still due."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from usher.connect.errors import ConnectError, StepFailed
from usher.contract.envfile import EnvFileError


@dataclass(frozen=True)
class Step:
    """One change.

    id: stable, for machines; where: the thing that changes; what and reason: for people; look:
    whether it is done already, changing nothing; apply: does it, and returns what was done.
    trust_apply: do not check afterwards, because a check would be too slow or too early; details:
    asked when the plan is shown, each a line of its own.
    """

    id: str
    where: str
    what: str
    reason: str
    look: Callable[[], bool]
    apply: Callable[[], str]
    trust_apply: bool = False
    details: Callable[[], list[str]] = list


@dataclass(frozen=True)
class Check:
    """One look at the connection as it runs. outcome: ok, warning (not a fault of
    the connection), failed, skipped."""

    id: str
    outcome: str
    seen: str
    fix: str = ""


@dataclass
class Plan:
    """due: the steps by id that were still needed when the plan was made."""

    facts: dict[str, str]
    steps: list[Step]
    due: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)

    def look(self) -> "Plan":
        """Finds what is due. A step behind another that is due can't be looked at yet sometimes;
        its ``look`` answers False then."""
        self.due = {step.id for step in self.steps if not step.look()}
        return self

    def as_data(self) -> dict[str, Any]:
        return {
            "facts": self.facts,
            "warnings": self.warnings,
            "changes": [
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
    """What wants to know how a plan gets on."""

    def begins(self, step: Step, number: int, total: int) -> None: ...

    def ends(self, step: Step, changed: bool, said: str) -> None: ...


def apply(plan: Plan, progress: Progress) -> list[str]:
    """Does the due steps in order; returns the ids of those that changed something.

    The plan is fresh; once something has changed, each step looks again.
    Raises StepFailed at the first step that fails; the steps before it stay done.
    """
    changed: list[str] = []
    for number, step in enumerate(plan.steps, start=1):
        progress.begins(step, number, len(plan.steps))
        try:
            due = not step.look() if changed else step.id in plan.due
            said = step.apply() if due else "already so"
            if due and not step.trust_apply and not step.look():
                raise StepFailed(step.id, f"{step.what}: done, but it did not take ({said})")
        except StepFailed:
            raise
        except ConnectError as error:
            raise StepFailed(step.id, f"{step.what}: {error}") from error
        except (OSError, EnvFileError) as error:
            raise StepFailed(step.id, f"{step.what}: {error}") from error
        if due:
            changed.append(step.id)
        progress.ends(step, due, said)
    return changed
