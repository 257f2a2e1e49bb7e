"""Every recording of a real LMS is replayed, in order, with the embedded LMS."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from usher.embedded.replay.player import ReplayResult, running_player
from usher.embedded.replay.recordings import load

FOLDER = Path(__file__).parents[1] / "recordings"
RECORDINGS = load(FOLDER)

# Recordings depend on earlier ones, so one process of pytest replays all.
pytestmark = pytest.mark.xdist_group("replay")


@pytest.fixture(scope="module")
def results() -> Iterator[dict[str, ReplayResult]]:
    """Name of a recording → its result. All recordings have been replayed, with one LMS."""
    with running_player() as player:
        yield {recording.name: player.play(recording) for recording in RECORDINGS}


@pytest.mark.parametrize("name", [recording.name for recording in RECORDINGS])
def test_the_embedded_lms_answers_as_recorded(name: str, results: dict[str, ReplayResult]) -> None:
    assert results[name].differences == []


def test_the_number_of_recordings_is_unchanged() -> None:
    # A missing file would otherwise only mean that fewer answers are compared.
    assert len(RECORDINGS) == 101
