"""``replay``: prints a line for each recording, then how many agree."""

import sys
from pathlib import Path

from usher.embedded.home.folder import FolderError
from usher.embedded.replay.player import player
from usher.embedded.replay.recordings import RecordingError, load


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command speaks to its operator


def run(folder: Path, *, verbose: bool = False) -> int:
    """Replay the recordings in ``folder``. Returns the exit code: 0 when every recording agrees, 1
    when one differs, 2 when there are no recordings or no LMS."""
    try:
        recordings = load(folder)
        agree = 0
        with player() as playing:
            for recording in recordings:
                outcome = playing.play(recording)
                agree += outcome.agrees
                mark = "✓ agrees " if outcome.agrees else "✗ differs"
                first = "" if outcome.agrees else f" - {outcome.differences[0]}"
                _say(f"{mark} {recording.name}: {recording.title}{first}")
                for line in outcome.differences[1:] if verbose else ():
                    _say(f"            {line}")
    except (RecordingError, FolderError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    differ = len(recordings) - agree
    _say(f"{agree} agree, {differ} differ")
    return 0 if differ == 0 else 1
