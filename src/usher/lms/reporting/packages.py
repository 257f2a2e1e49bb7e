"""Installed packages: versions, conflicts, and packages that the image does not contain."""

from __future__ import annotations

import os
import re
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distributions, version
from pathlib import Path

from usher.contract.oauth import BACKENDS

#: Sign-in backends are installed without their dependencies, so that the platform's versions of
#: these stay.
_BACKENDS = (
    *dict.fromkeys(backend.requirement for backend in BACKENDS.values()),
    "openedx-companion-auth",
)
#: Distributions that a connection depends on.
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
    """Installed versions of ``NAMES``, by name."""
    versions_by_name = {}
    for name in NAMES:
        try:
            versions_by_name[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions_by_name


def conflicts() -> list[str]:
    """Unmet requirements of or for the packages in ``NAMES``, worded like ``pip check``.

    Version requirements of the sign-in backends are ignored: the backends are installed without
    their dependencies, to keep the platform's versions. ``settings.backends`` reports whether the
    backends can be imported.
    """
    names = {_canonical(name) for name in NAMES}
    installed = _installed_distributions()
    conflict_sentences = []
    for distribution in installed.values():
        name = distribution.metadata["Name"]
        for text in distribution.requires or []:
            sentence = _conflict_sentence(name, text, names, installed)
            if sentence:
                conflict_sentences.append(sentence)
    return sorted(conflict_sentences)


def _conflict_sentence(
    name: str, text: str, names: set[str], installed: dict[str, Distribution]
) -> str:
    """The conflict, if the requirement ``text`` of the package ``name`` isn't met and ``name`` or
    the required package is in ``names``; else ''."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return ""
    target = _canonical(requirement.name)
    if target not in names and _canonical(name) not in names:
        return ""
    # Requirements of extras don't count.
    no_extra = {"extra": ""}
    if requirement.marker and not requirement.marker.evaluate(no_extra):
        return ""
    present = installed.get(target)
    if present is None:
        return f"{name} requires {requirement.name}, which is not installed."
    if _canonical(name) in map(_canonical, _BACKENDS):
        return ""  # a backend's version requirements are ignored, see ``conflicts``
    if requirement.specifier.contains(present.version, prereleases=True):
        return ""
    return (
        f"{name} requires {requirement.name}{requirement.specifier}, but it is {present.version}."
    )


def find_outside_image() -> list[str]:
    """Packages of ``NAMES`` that are newer than this container: somebody installed them into the
    container, and they are lost when the container is recreated. Empty outside of a container."""
    start = _container_start()
    if start is None:
        return []
    installed = _installed_distributions()
    names = dict.fromkeys(map(_canonical, NAMES))
    newer_names = []
    for name in names:
        installed_at = _installed_at(installed[name]) if name in installed else None
        if installed_at is not None and installed_at > start:
            newer_names.append(name)
    return newer_names


def _container_start() -> float | None:
    """When the container was created (Unix seconds): the time of ``/etc/hostname``, which the
    container runtime writes at creation. None outside of a container."""
    container_files = (Path("/.dockerenv"), Path("/run/.containerenv"))
    if (
        not any(file.exists() for file in container_files)
        and "KUBERNETES_SERVICE_HOST" not in os.environ
    ):
        return None
    try:
        return Path("/etc/hostname").stat().st_mtime
    except OSError:
        return None


def _installed_at(distribution: Distribution) -> float | None:
    """When the package was installed (Unix seconds): the time of its folder. None if unknown."""
    folder = getattr(distribution, "_path", None) or distribution.locate_file("")
    try:
        return Path(str(folder)).stat().st_mtime
    except (OSError, TypeError):
        return None


@cache
def _installed_distributions() -> dict[str, Distribution]:
    return {_canonical(d.metadata["Name"]): d for d in distributions() if d.metadata["Name"]}


def _canonical(name: str) -> str:
    """The name as package indexes compare it: lower case, ``-`` in place of ``_`` and ``.``."""
    return re.sub(r"[-_.]+", "-", name).lower()
