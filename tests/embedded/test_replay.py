"""Every recording of a real LMS is replayed in order against the embedded one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from usher.embedded.replay.player import Outcome, player
from usher.embedded.replay.recordings import load

FOLDER = Path(__file__).parents[1] / "recordings"
RECORDINGS = load(FOLDER)

# They depend on each other, so one worker replays all.
pytestmark = pytest.mark.xdist_group("replay")


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Outcome]]:
    with player() as playing:
        yield {one.name: playing.play(one) for one in RECORDINGS}


@pytest.mark.parametrize("name", [one.name for one in RECORDINGS])
def test_the_embedded_lms_answers_as_recorded(name: str, outcomes: dict[str, Outcome]) -> None:
    assert outcomes[name].differences == []


def test_all_recordings_are_here() -> None:
    assert len(RECORDINGS) == 101
