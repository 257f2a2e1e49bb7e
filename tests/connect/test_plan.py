"""A plan checks each step before it is applied, and can be interrupted at any point."""

import errno
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usher.connect.errors import ConnectError, NeedsPerson, Refused, StepFailed
from usher.connect.plan import Plan, Step, apply


class Killed(BaseException):
    """Stands for ``kill -9``: no code of the plan may catch this exception."""


@dataclass
class World:
    """Values that a plan sets to 1, one after the other. A run can be killed before or after each
    change.

    changes: the number of changes that were begun. killed_at: 2n kills the run before change n,
    2n + 1 after change n; None lets the run end.
    """

    values: dict[str, int] = field(default_factory=dict)
    changes: int = 0
    killed_at: int | None = None

    def step(self, name: str) -> Step:
        """A step that sets the value ``name``."""

        def change() -> str:
            self.changes += 1
            if self.changes * 2 == self.killed_at:
                raise Killed
            self.values[name] = 1
            if self.changes * 2 + 1 == self.killed_at:
                raise Killed
            return "set"

        return Step(
            id=name,
            where="here",
            what=f"set {name}",
            reason="why not",
            is_done=lambda: name in self.values,
            apply=change,
        )

    def plan(self, names: list[str]) -> Plan:
        return Plan(facts={}, steps=[self.step(name) for name in names]).find_due()


class SilentProgress:
    """Prints nothing. results: id, changed and result of each finished step."""

    def __init__(self) -> None:
        self.results: list[tuple[str, bool, str]] = []

    def start_step(self, step: Step, number: int, total: int) -> None:
        pass

    def finish_step(self, step: Step, changed: bool, result: str) -> None:
        self.results.append((step.id, changed, result))


NAMES = ["a", "b", "c", "d"]


def test_only_due_steps_are_applied_and_a_second_run_changes_nothing():
    world = World({"b": 1})
    assert world.plan(NAMES).due == {"a", "c", "d"}
    assert apply(world.plan(NAMES), SilentProgress()) == ["a", "c", "d"]
    progress = SilentProgress()
    assert apply(world.plan(NAMES), progress) == []
    assert progress.results == [(name, False, "already so") for name in NAMES]
    assert world.changes == 3


#: The values of ``World.killed_at`` before the first change and after the last one.
FIRST_KILL, LAST_KILL = 2, 2 * len(NAMES) + 1


@given(st.lists(st.integers(FIRST_KILL, LAST_KILL), max_size=6))
def test_a_plan_killed_at_any_point_ends_in_the_same_state(kills):
    world = World()
    for kill in kills:
        world.changes = 0
        world.killed_at = kill
        with suppress(Killed):
            apply(world.plan(NAMES), SilentProgress())
    world.killed_at = None
    apply(world.plan(NAMES), SilentProgress())
    assert world.values == dict.fromkeys(NAMES, 1)


def test_a_plan_is_refused_before_the_first_change_if_a_due_step_can_not_write_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    world = World()
    steps = [world.step("a"), replace(world.step("b"), file=tmp_path / ".env")]
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(Refused, match=rf"{tmp_path}/\.env can't be written: Permission denied"):
        Plan(facts={}, steps=steps).find_due()
    world.values["b"] = 1  # a file that needs no change may be read-only
    assert Plan(facts={}, steps=steps).find_due().due == {"a"}


def test_a_step_without_effect_stops_the_plan():
    world = World()
    lost = Step(
        id="lost",
        where="here",
        what="write to nowhere",
        reason="",
        is_done=lambda: False,
        apply=lambda: "written",
    )
    with pytest.raises(
        StepFailed, match=r"write to nowhere: done \(.*\), but a check finds no change"
    ) as failure:
        steps = [world.step("a"), lost, world.step("z")]
        apply(Plan(facts={}, steps=steps).find_due(), SilentProgress())
    assert failure.value.step == "lost"
    assert world.values == {"a": 1}


@pytest.mark.parametrize(
    ("error", "expected_class"),
    [
        (ConnectError("broke"), StepFailed),
        (OSError(errno.EROFS, "Read-only file system"), StepFailed),
        (NeedsPerson(step="x", message="push the button"), NeedsPerson),
    ],
)
def test_an_error_in_a_step_names_the_step(error, expected_class):
    def change() -> str:
        raise error

    step = Step(id="x", where="here", what="do x", reason="", is_done=lambda: False, apply=change)
    plan = Plan(facts={}, steps=[step]).find_due()
    with pytest.raises(expected_class) as failure:
        apply(plan, SilentProgress())
    assert type(failure.value) is expected_class
    assert failure.value.step == "x"


def test_a_plan_as_data_says_which_changes_are_due():
    assert World({"a": 1}).plan(["a", "b"]).as_data()["changes"] == [
        {
            "id": "a",
            "where": "here",
            "what": "set a",
            "details": [],
            "reason": "why not",
            "due": False,
        },
        {
            "id": "b",
            "where": "here",
            "what": "set b",
            "details": [],
            "reason": "why not",
            "due": True,
        },
    ]
