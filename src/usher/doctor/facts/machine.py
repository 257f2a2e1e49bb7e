"""The machine that doctor runs on."""

import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass
class Machine:
    """platform: as ``sys.platform`` (``linux``, ``darwin``)."""

    platform: str = field(default_factory=lambda: sys.platform)

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    @property
    def system(self) -> str:
        return {"linux": "Linux", "darwin": "macOS"}.get(self.platform, self.platform)
