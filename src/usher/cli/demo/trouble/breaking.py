"""Breaks things in a running demo, and checks that each is broken as its case says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from usher.cli.demo.errors import DemoError
from usher.cli.demo.learner_journey import TROUBLE_FILE
from usher.cli.demo.pair import Pair
from usher.cli.demo.setup import Step
from usher.cli.demo.trouble.cases import CASES, LEARNERS, RUNS

_FOLDER = Path(__file__).parent
#: Seconds within which every case must have its expected state.
SECONDS = 60.0


class Trouble:
    """The cases in one demo. Things are broken only once in a folder: a later start leaves the
    cases as they are, repaired or not."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self._file = pair.home / TROUBLE_FILE

    def steps(self) -> Iterator[Step]:
        """Does the steps in order and yields each when it is done. The first step that failed is
        the last."""
        if self._file.exists():
            yield Step(
                id="trouble",
                ok=True,
                seconds=0.0,
                detail=f"from the earlier start in {self.pair.home}",
            )
            return
        for name, action in (
            ("trouble-before", self._prepare),
            ("trouble-break", self._break),
            ("trouble-seen", self._wait_for_all),
        ):
            started = time.monotonic()
            try:
                detail, ok = action(), True
            except DemoError as error:
                detail, ok = str(error), False
            yield Step(id=name, ok=ok, seconds=time.monotonic() - started, detail=detail)
            if not ok:
                return

    def _prepare(self) -> str:
        """Creates the runs, and learners whose records are in sync."""
        self._run_in_lms("prepare", RUNS)
        self._run_in_application("prepare", LEARNERS, RUNS)
        # In her case the LMS enrolls her again, after a proper unenrollment.
        self._run_in_application("unenroll_wanda", RUNS)
        # A late message from the LMS would make the worker repair the things that the next step
        # breaks.
        self._run_in_lms("wait_for_messages")
        self._run_in_application("settle")
        return f"{len(LEARNERS)} learners in {len(RUNS)} course runs, as they should be"

    def _break(self) -> str:
        """Breaks the things in the LMS first, because some in the application follow from them."""
        self._run_in_lms("break_things", RUNS)
        self._run_in_application("break_things", RUNS)
        return f"{len(CASES)} things are broken"

    def _wait_for_all(self) -> str:
        """Waits until every case has its expected state, which may need a message from the LMS.
        Raises DemoError after SECONDS."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                self._require_all_cases()
                break
            except DemoError:
                if time.monotonic() > deadline:
                    raise
                self.pair.check()  # and no pause: each attempt runs two slow commands
        self._file.write_text(json.dumps(cases_as_data()))
        return f"all {len(CASES)} are seen in the application or the LMS"

    def _require_all_cases(self) -> None:
        """Raises DemoError for the first case whose observed state is not the expected one."""
        in_application = self._run_in_application("read_states", [case.learner for case in CASES])
        lms_usernames = {
            learner: records["lms username"] or learner
            for learner, records in in_application.items()
        }
        in_lms = self._run_in_lms("read_states", list(lms_usernames.values()))
        for case in CASES:
            observed = {
                **_flatten("application", in_application[case.learner]),
                **_flatten("LMS", in_lms[lms_usernames[case.learner]]),
            }
            case.require_expected(observed)
        # Gita's case: the states of her records don't show the dates of her run.
        moved_key, _ = RUNS["moved"]
        end_in_application = self._run_in_application("end_of_run", moved_key)
        if end_in_application == self._run_in_lms("end_of_run", moved_key):
            raise DemoError(
                f"The run {moved_key} should end at different times in the application and the "
                "LMS; the times are equal."
            )

    def _run_in_application(self, step: str, *arguments: Any) -> Any:
        script = _script_of("inside_application.py", step, *arguments)
        return _parse_answer(self.pair.manage_application("shell", "--no-imports", stdin=script))

    def _run_in_lms(self, step: str, *arguments: Any) -> Any:
        script = _script_of("inside_lms.py", step, *arguments)
        return _parse_answer(self.pair.manage_lms("shell", stdin=script))


def cases_as_data() -> list[dict[str, str]]:
    """All cases, for JSON."""
    return [case.as_dict() for case in CASES]


def _script_of(file_name: str, *step: Any) -> str:
    """The script, with the name and the arguments of the step that it runs in front."""
    return f"STEP = {list(step)!r}\n{(_FOLDER / file_name).read_text()}"


def _parse_answer(output: str) -> Any:
    """The result that a script printed as its last line."""
    return json.loads(output.strip().splitlines()[-1])


def _flatten(system: str, observed: dict[str, Any]) -> dict[str, Any]:
    """The observed values by name: ``application account``, ``application enrollment main`` …"""
    values = {
        f"{system} {name}": value for name, value in observed.items() if name != "enrollments"
    }
    short_names = {key: name for name, (key, _) in RUNS.items()}
    for key, value in observed["enrollments"].items():
        values[f"{system} enrollment {short_names.get(key, key)}"] = value
    return values
