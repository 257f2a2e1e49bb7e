"""The ports of the project and its LMS, remembered for the next start of ``usher dev``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FILE_NAME = "ports.json"


@dataclass(frozen=True)
class Ports:
    """The ports of the project and the LMS on this machine."""

    project: int = 8000
    lms: int = 18000

    @classmethod
    def of_last_start(cls, home: Path) -> Ports:
        """The ports that ``remember`` wrote to ``home``, or the defaults."""
        try:
            ports = json.loads((home / FILE_NAME).read_text())
            return cls(int(ports["project"]), int(ports["lms"]))
        except (OSError, ValueError, TypeError, KeyError):
            return cls()

    def with_options(self, *, project: int | None, lms: int | None) -> Ports:
        """A copy with the ports given as options; None, for no option, keeps the present port."""
        return Ports(project or self.project, lms or self.lms)

    def remember(self, home: Path) -> None:
        (home / FILE_NAME).write_text(json.dumps(asdict(self)))
