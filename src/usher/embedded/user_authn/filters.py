"""Filters of registrations, configured as on the platform (openedx-filters)."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

REGISTRATION = "org.openedx.learning.student.registration.requested.v1"


class PreventRegistration(Exception):
    """Raised by a filter step; the message is shown to the person who registers."""


def run_filters(form_data: dict[str, Any]) -> dict[str, Any]:
    """The fields of a registration as the filters in ``OPEN_EDX_FILTERS_CONFIG`` leave them. Each
    filter is a function that takes and returns ``form_data``. Raises PreventRegistration."""
    filter_config = getattr(settings, "OPEN_EDX_FILTERS_CONFIG", {}).get(REGISTRATION, {})
    for path in filter_config.get("pipeline", []):
        form_data = import_string(path)(form_data)
    return form_data
