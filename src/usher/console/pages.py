"""Functions that all pages of the console share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from usher.application.explain import worker_problem
from usher.console.access import allowed_actions


def render_page(
    request: HttpRequest, name: str, context: Mapping[str, Any], status: int = 200
) -> HttpResponse:
    """Renders the template ``name``. The part before its slash is the current entry of the
    navigation."""
    frame = {
        "section": name.split("/")[0],
        "may": allowed_actions(request),
        "site_title": str(getattr(settings, "SITE_NAME", "") or "Open edX"),
        "theme_edition": str(getattr(settings, "USHER_EDITION", "") or ""),
        "notices": list(messages.get_messages(request)),
        # The overview's first sentence already says that no worker is running.
        "worker_problem": None if name == "overview" else worker_problem(),
    }
    return render(request, f"usher_console/{name}.html", {**frame, **context}, status=status)


def add_message(request: HttpRequest, text: str, *, is_success: bool = True) -> None:
    """Shows a message on the next page; does nothing in a project without Django's messages."""
    level = messages.SUCCESS if is_success else messages.WARNING
    messages.add_message(request, level, text, fail_silently=True)
