"""Settings of this process for the report."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from usher.contract import report
from usher.contract.oauth import BACKENDS
from usher.lms.backends import class_path

#: Settings of Usher that are reported but not listed in ``contract.report.SETTINGS``.
USHER_SETTINGS = ("USHER_BACKENDS", "USHER_LOGOUT_URIS", "USHER_REGISTRATION_RATELIMIT")


def settings_by_name() -> dict[str, Any]:
    return {
        name: _plain(getattr(settings, name, None)) for name in (*report.SETTINGS, *USHER_SETTINGS)
    }


def features() -> dict[str, Any]:
    """Effective values of feature flags: those in FEATURES, else settings of the same name."""
    return {name: _plain(_feature(name)) for name in report.FEATURES}


def _feature(name: str) -> Any:
    in_features = getattr(settings, "FEATURES", {}).get(name)
    return getattr(settings, name, None) if in_features is None else in_features


def _plain(value: Any) -> Any:
    """``value`` as JSON types; lazy strings, paths and other objects become strings."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value)


def backends() -> list[report.Backend]:
    """Backends in USHER_BACKENDS and known ones in AUTHENTICATION_BACKENDS; ``error`` says why a
    backend can't be imported, or is ''."""
    configured = getattr(settings, "USHER_BACKENDS", None) or {}
    # An unknown backend is reported by its name, which can't be imported.
    paths = {
        name: class_path(name, base) if base in BACKENDS else base
        for name, base in configured.items()
    }
    known_names = {backend.class_path: backend.name for backend in BACKENDS.values()}
    for path in settings.AUTHENTICATION_BACKENDS:
        if path in known_names and known_names[path] not in paths:
            paths[known_names[path]] = path
    return [_backend(name, path) for name, path in paths.items()]


def _backend(name: str, path: str) -> report.Backend:
    """Describes a backend for the report; tries to import it."""
    error = ""
    try:
        import_string(path)
    except ImportError as problem:
        error = str(problem)
    return {"name": name, "class_path": path, "error": error}


def private_settings() -> bool:
    """Whether a file ``lms/envs/private.py`` exists, which would override the configuration."""
    try:
        folder = import_module("lms.envs").__path__
    except ImportError:
        return False
    return any((Path(path) / "private.py").exists() for path in folder)
