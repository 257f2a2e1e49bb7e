"""Finds and configures plugin apps as edx-platform does: by entry point and ``plugin_app``."""

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from django.conf import settings
from django.urls import URLPattern, URLResolver, include, path, re_path

ENTRY_POINT_GROUP = "lms.djangoapp"


def _configurations(names: list[str]) -> Iterator[Any]:
    """The app configurations of the named plugins, in the order of the names."""
    entry_points_by_name = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    for name in names:
        if name not in entry_points_by_name:
            raise LookupError(
                f"no plugin named {name!r} is installed (entry points of {ENTRY_POINT_GROUP})"
            )
        yield entry_points_by_name[name].load()


def _import_submodule(configuration: Any, relative: str) -> ModuleType:
    return import_module(f"{configuration.name}.{relative}")


def installed_apps(names: list[str]) -> list[str]:
    """The entries of these plugins for INSTALLED_APPS. Raises LookupError for a plugin that is not
    installed."""
    return [
        f"{configuration.__module__}.{configuration.__qualname__}"
        for configuration in _configurations(names)
    ]


def apply_settings(names: list[str], module: Any, kind: str) -> None:
    """Call ``plugin_settings(module)`` of every plugin. module: the settings module to change.
    kind: ``common`` or ``production``. Raises LookupError for a plugin that is not installed."""
    for configuration in _configurations(names):
        plugin_app = getattr(configuration, "plugin_app", {})
        settings_config = plugin_app.get("settings_config", {}).get(ENTRY_POINT_GROUP, {})
        if kind in settings_config:
            relative = settings_config[kind].get("relative_path", f"settings.{kind}")
            _import_submodule(configuration, relative).plugin_settings(module)


def url_patterns() -> list[URLPattern | URLResolver]:
    """The plugins' URL patterns, under the regex and namespace of their ``plugin_app``."""
    patterns: list[URLPattern | URLResolver] = []
    for configuration in _configurations(settings.EMBEDDED_PLUGINS):
        url_config = (
            getattr(configuration, "plugin_app", {}).get("url_config", {}).get(ENTRY_POINT_GROUP)
        )
        if not url_config:
            continue
        urls = f"{configuration.name}.{url_config.get('relative_path', 'urls')}"
        namespace = url_config.get("namespace")
        included_urls = (
            include((urls, url_config.get("app_name") or namespace), namespace=namespace)
            if namespace
            else include(urls)
        )
        regex = url_config.get("regex", "")
        patterns.append(re_path(regex, included_urls) if regex else path("", included_urls))
    return patterns
