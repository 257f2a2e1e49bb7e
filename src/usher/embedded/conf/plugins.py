"""Finds and configures plugin apps as edx-platform does: by entry point and ``plugin_app``."""

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from django.conf import settings
from django.urls import URLPattern, URLResolver, include, path, re_path

GROUP = "lms.djangoapp"


def _configurations(names: list[str]) -> Iterator[Any]:
    """The app configurations of the named plugins, in the order of the names."""
    entry_points_by_name = {point.name: point for point in entry_points(group=GROUP)}
    for name in names:
        if name not in entry_points_by_name:
            raise LookupError(f"no plugin named {name!r} is installed (entry points of {GROUP})")
        yield entry_points_by_name[name].load()


def _module(configuration: Any, relative: str) -> ModuleType:
    return import_module(f"{configuration.name}.{relative}")


def installed_apps(names: list[str]) -> list[str]:
    return [
        f"{configuration.__module__}.{configuration.__qualname__}"
        for configuration in _configurations(names)
    ]


def apply_settings(names: list[str], module: Any, kind: str) -> None:
    """Call ``plugin_settings(module)`` of every plugin. module: the settings module to change.
    kind: ``common`` or ``production``. Raises LookupError for a plugin that is not installed."""
    for configuration in _configurations(names):
        described = (
            getattr(configuration, "plugin_app", {}).get("settings_config", {}).get(GROUP, {})
        )
        if kind in described:
            relative = described[kind].get("relative_path", f"settings.{kind}")
            _module(configuration, relative).plugin_settings(module)


def url_patterns() -> list[URLPattern | URLResolver]:
    """The plugins' URL patterns, under the regex and namespace of their ``plugin_app``."""
    patterns: list[URLPattern | URLResolver] = []
    for configuration in _configurations(settings.EMBEDDED_PLUGINS):
        described = getattr(configuration, "plugin_app", {}).get("url_config", {}).get(GROUP)
        if not described:
            continue
        urls = f"{configuration.name}.{described.get('relative_path', 'urls')}"
        namespace = described.get("namespace")
        included = (
            include((urls, described.get("app_name") or namespace), namespace=namespace)
            if namespace
            else include(urls)
        )
        regex = described.get("regex", "")
        patterns.append(re_path(regex, included) if regex else path("", included))
    return patterns
