"""``replay``: prints a line for each recording, then how many agree."""

import sys
from pathlib import Path

from usher.embedded.home.folder import FolderError
from usher.embedded.replay.player import running_player
from usher.embedded.replay.recordings import RecordingError, load


def _print_line(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command speaks to its operator


def run(folder: Path, *, verbose: bool = False) -> int:
    """Replay the recordings in ``folder``. Returns the exit code: 0 when every recording agrees, 1
    when one differs, 2 when there are no recordings or no LMS. verbose: print all differences of a
    recording, not only the first."""
    try:
        recordings = load(folder)
        agreeing = 0
        with running_player() as player:
            for recording in recordings:
                outcome = player.play(recording)
                agreeing += outcome.agrees
                mark = "✓ agrees " if outcome.agrees else "✗ differs"
                first_difference = "" if outcome.agrees else f" - {outcome.differences[0]}"
                _print_line(f"{mark} {recording.name}: {recording.title}{first_difference}")
                for line in outcome.differences[1:] if verbose else ():
                    _print_line(f"            {line}")
    except (RecordingError, FolderError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    differing = len(recordings) - agreeing
    _print_line(f"{agreeing} agree, {differing} differ")
    return 0 if differing == 0 else 1
