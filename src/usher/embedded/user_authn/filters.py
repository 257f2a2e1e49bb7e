"""Filters of registrations, configured as the platform's are (openedx-filters)."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

REGISTRATION = "org.openedx.learning.student.registration.requested.v1"


class PreventRegistration(Exception):
    """Raised by a step; the message is for the person who registers."""


def run_filters(form_data: dict[str, Any]) -> dict[str, Any]:
    """What the steps of ``OPEN_EDX_FILTERS_CONFIG`` make of a registration's fields. Each is a
    function that takes and returns ``form_data``. Raises PreventRegistration."""
    configured = getattr(settings, "OPEN_EDX_FILTERS_CONFIG", {}).get(REGISTRATION, {})
    for path in configured.get("pipeline", []):
        form_data = import_string(path)(form_data)
    return form_data
