"""Packages of this container: their conflicts, and differences from the image."""

from __future__ import annotations

import os
import re
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distributions, version
from pathlib import Path

from usher.contract.oauth import BACKENDS

#: Installed without their dependencies, so that the platform's versions stay.
_BACKENDS = (
    *dict.fromkeys(backend.requirement for backend in BACKENDS.values()),
    "openedx-companion-auth",
)
#: Distributions that a connection stands or falls with.
NAMES = (
    "openedx-usher",
    *_BACKENDS,
    "attrs",
    "django",
    "django-oauth-toolkit",
    "social-auth-app-django",
    "social-auth-core",
    "openedx-events",
    "pyjwt",
    "requests",
)


def versions() -> dict[str, str]:
    found = {}
    for name in NAMES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def conflicts() -> list[str]:
    """What ``pip check`` says of the packages above: requirements that are not met.

    Not that the platform's version of a package is another than a backend asks for: that is how it
    is meant to be, and whether the backend can be imported is told elsewhere.
    """
    wanted = {_canonical(name) for name in NAMES}
    installed = _installed()
    sentences = []
    for distribution in installed.values():
        name = distribution.metadata["Name"]
        for text in distribution.requires or []:
            sentence = _unmet(name, text, wanted, installed)
            if sentence:
                sentences.append(sentence)
    return sorted(sentences)


def _unmet(name: str, text: str, wanted: set[str], installed: dict[str, Distribution]) -> str:
    """A sentence when this requirement touches a package above and isn't met."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return ""
    target = _canonical(requirement.name)
    if target not in wanted and _canonical(name) not in wanted:
        return ""
    if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
        return ""
    present = installed.get(target)
    if present is None:
        return f"{name} requires {requirement.name}, which is not installed."
    if _canonical(name) in map(_canonical, _BACKENDS):
        return ""
    if requirement.specifier.contains(present.version, prereleases=True):
        return ""
    return (
        f"{name} requires {requirement.name}{requirement.specifier}, but it is {present.version}."
    )


def outside_image() -> list[str]:
    """Packages above that are newer than this container: installed into it by hand, and gone when
    it is re-created. Nothing is known outside of a container."""
    start = _container_start()
    if start is None:
        return []
    installed = _installed()
    wanted = dict.fromkeys(map(_canonical, NAMES))
    present = [name for name in wanted if name in installed]
    return [name for name in present if (_installed_at(installed[name]) or 0) > start]


def _container_start() -> float | None:
    """Unix seconds; the container's engine writes this file when it makes the container."""
    marks = (Path("/.dockerenv"), Path("/run/.containerenv"))
    if not any(mark.exists() for mark in marks) and "KUBERNETES_SERVICE_HOST" not in os.environ:
        return None
    try:
        return Path("/etc/hostname").stat().st_mtime
    except OSError:
        return None


def _installed_at(distribution: Distribution) -> float | None:
    folder = getattr(distribution, "_path", None) or distribution.locate_file("")
    try:
        return Path(str(folder)).stat().st_mtime
    except (OSError, TypeError):
        return None


@cache
def _installed() -> dict[str, Distribution]:
    return {_canonical(d.metadata["Name"]): d for d in distributions() if d.metadata["Name"]}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
