"""What can go wrong between the sidecar and the application.

SidecarError
├── AgentFailed       the agent didn't start, ended, or didn't answer in time
├── RequestFailed     it answered that this request can't be done
├── NotAsKnown        the application's tables aren't what the adapter knows
├── NotAnswering      the LMS didn't say who it is
└── NotTrusted        the LMS's answers can't be believed; nothing is concluded from them
"""

from __future__ import annotations


class SidecarError(Exception):
    pass


class AgentFailed(SidecarError):
    pass


class RequestFailed(SidecarError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotAsKnown(SidecarError):
    """``missing``: models, columns, functions."""

    def __init__(self, title: str, missing: list[str]) -> None:
        super().__init__(
            f"{title} is not as this version of Usher knows it: it has no {', '.join(missing)}. "
            "Nothing was read or changed. Upgrade openedx-usher, or report the release you run."
        )
        self.missing = missing


class NotAnswering(SidecarError):
    pass


class NotTrusted(SidecarError):
    pass
