"""Filters of the console's templates."""

from __future__ import annotations

from datetime import datetime

from django import template

from usher.console import words

register = template.Library()

_MARKS = {"ok": "✓", "waiting": "…", "warning": "!", "bad": "✗"}


@register.filter
def ago(moment: datetime | None) -> str:
    """``12 s ago``; ``never``."""
    return words.ago(moment)


@register.filter
def mark(state: str) -> str:
    """A sign for a state, so that it isn't told by colour alone."""
    return _MARKS.get(state, "?")


@register.filter
def css(state: object) -> str:
    """A state's class: ``In sync`` → ``in-sync``."""
    return str(state).lower().replace(" ", "-")
