"""Filters of the console's templates."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from django import template
from django.urls import NoReverseMatch, reverse
from django.utils.html import escape, format_html
from django.utils.safestring import mark_safe

from usher.console import words
from usher.contract.terminal import text_and_commands
from usher.engine.registry import all_kinds

register = template.Library()

#: Text in backticks.
_CODE = re.compile(r"`([^`\n]+)`")
#: State of a verdict → its symbol.
_MARKS = {"ok": "✓", "waiting": "…", "warning": "!", "bad": "✗"}


@register.filter
def ago(moment: datetime | None) -> str:
    """``12 s ago``; ``never``."""
    return words.ago(moment)


@register.filter
def number(value: int) -> str:
    """``100,000``"""
    return f"{value:,}"


@register.filter
def mark(state: str) -> str:
    """A symbol for a state, so that it is not shown by colour alone."""
    return _MARKS.get(state, "?")


@register.filter
def css(state: object) -> str:
    """A state's CSS class: ``In sync`` → ``in-sync``."""
    return str(state).lower().replace(" ", "-")


@register.filter
def with_commands(text: str) -> str:
    """Formats the commands in backticks of a text as code. A long command gets a line of its own,
    so that it can be copied."""
    formatted_pieces = [
        format_html('<code class="fix">{}</code>', piece) if is_command else _with_code(piece)
        for piece, is_command in text_and_commands(str(text or ""))
    ]
    return mark_safe(" ".join(formatted_pieces))  # noqa: S308 - each part is escaped


def _with_code(text: str) -> str:
    parts = _CODE.split(text)  # text and code by turns
    return mark_safe(  # noqa: S308 - each part is escaped
        "".join(
            format_html("<code>{}</code>", part) if number % 2 else escape(part)
            for number, part in enumerate(parts)
        )
    )


@register.simple_tag(takes_context=True)
def in_admin(context: Any, row: Any) -> str:
    """The URL of an object in Django's admin; '' if there is none or the person may not see it."""
    return _admin_url(context["request"].user, type(row), row.pk)


@register.simple_tag(takes_context=True)
def record_in_admin(context: Any, record: Any) -> str:
    """The URL of a record in Django's admin; '' if there is none or the person may not see it.

    An account's actions are on the list page, so the URL leads to a list with this account only.
    """
    is_on_list_page = record.kind == "account"
    model = all_kinds()[record.kind].model
    return _admin_url(context["request"].user, model, record.pk, is_on_list_page=is_on_list_page)


def _admin_url(user: Any, model: Any, pk: Any, *, is_on_list_page: bool = False) -> str:
    """The URL of an object in Django's admin; '' if the user may not see the model, or the admin
    does not have it. is_on_list_page: whether to lead to a list with this object only."""
    meta = model._meta
    if not user.has_perm(f"{meta.app_label}.view_{meta.model_name}"):
        return ""
    name = f"admin:{meta.app_label}_{meta.model_name}"
    try:
        if is_on_list_page:
            return f"{reverse(f'{name}_changelist')}?id__exact={pk}"
        return reverse(f"{name}_change", args=[pk])
    except NoReverseMatch:
        return ""
