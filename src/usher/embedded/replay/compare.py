"""Compares an answer with the recorded one.

Status and body must be equal, and so must the headers in ``_HEADERS``: no header may be missing or
added. Values that differ in every run (ids, times, tokens, states, codes, random names) are
compared by shape. Values that later requests send back are stored in ``KnownValues``.
"""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

_HEADERS = ("Content-Type", "Allow", "WWW-Authenticate", "Location")
#: Query parameters of a redirect that have random values.
_RANDOM_PARAMETERS = {"state", "redirect_state", "code"}
#: Query parameters whose value is a URL.
_NESTED = {"redirect_uri"}
_TOKENS = {"access_token", "refresh_token"}
_MOMENTS = {"created", "date_joined", "last_login", "created_date", "modified_date", "modified"}
_NUMBERS = {"id", "user_id", "lms_user_id", "retirement_id"}
_RANDOM_TEXTS = {"activation_key", "uuid"}
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")
_WAIT = re.compile(r"(?<=available in )\d+(?= second)")


class KnownValues(dict[str, str]):
    """Recorded random values, and the values that replace them in this run."""

    def translate(self, text: str) -> str:
        for recorded, actual in self.items():
            text = text.replace(recorded, actual)
        return text


class _Title(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.inside, self.text = False, ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.inside = tag == "title" and not self.text

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.text += data


def title_of(html: str) -> str:
    parser = _Title()
    parser.feed(html)
    return " ".join(parser.text.split())


def _shape(text: str) -> str:
    """``text`` with letters and digits replaced by their kind."""
    return re.sub(r"[A-Za-z]", "a", re.sub(r"\d", "0", text))


def differences(
    recorded: dict[str, Any], actual: httpx.Response, known_values: KnownValues
) -> list[str]:
    """One line for each difference; empty when the answers agree. Adds random values of this run to
    ``known_values``."""
    sentences: list[str] = []
    if recorded["status"] != actual.status_code:
        sentences.append(f"status {recorded['status']}, here {actual.status_code}")
    sentences += _headers(recorded.get("headers", {}), actual, known_values)
    sentences += _body(recorded.get("body", ""), actual, known_values)
    return sentences


def _headers(
    recorded: dict[str, Any], actual: httpx.Response, known_values: KnownValues
) -> Iterator[str]:
    for name in _HEADERS:
        recorded_value, present = recorded.get(name), actual.headers.get(name)
        if name == "Location" and recorded_value is not None and present is not None:
            yield from _location(recorded_value, present, known_values)
        elif recorded_value != present:
            yield f"{name} {recorded_value!r}, here {present!r}"
    recorded_cookies = sorted(recorded.get("Set-Cookie-Names", []))
    actual_cookies = sorted(actual.cookies.keys())
    if recorded_cookies != actual_cookies:
        yield f"cookies {recorded_cookies}, here {actual_cookies}"


def _location(recorded: str, actual: str, known_values: KnownValues) -> Iterator[str]:
    recorded_url, present = urlsplit(recorded), urlsplit(actual)
    if recorded_url._replace(query="") != present._replace(query=""):
        yield f"Location {recorded!r}, here {actual!r}"
        return
    before = parse_qsl(recorded_url.query, keep_blank_values=True)
    now = parse_qsl(present.query, keep_blank_values=True)
    # The names and their order must be equal.
    if [name for name, _ in before] != [name for name, _ in now]:
        yield f"Location's parameters {recorded_url.query!r}, here {present.query!r}"
        return
    for (name, old), (_, new) in zip(before, now, strict=True):
        if name in _RANDOM_PARAMETERS and old and new:
            known_values[old] = new
            if len(old) != len(new):
                yield f"Location's {name} has {len(old)} characters, here {len(new)}"
        elif name in _NESTED:
            yield from _location(old, new, known_values)
        elif old != new:
            yield f"Location's {name} {old!r}, here {new!r}"
    random = (
        _RANDOM_PARAMETERS & {name for name, _ in before} or "redirect_uri" in recorded_url.query
    )
    if not random and recorded_url.query != present.query:
        yield f"Location's query {recorded_url.query!r}, here {present.query!r}"


def _body(recorded: Any, actual: httpx.Response, known_values: KnownValues) -> Iterator[str]:
    if isinstance(recorded, dict) and recorded.get("html"):
        title = title_of(actual.text)
        if title != recorded["title"]:
            yield f"title {recorded['title']!r}, here {title!r}"
        return
    if recorded == "":
        if actual.content:
            yield f"no body, here {actual.text[:200]!r}"
        return
    try:
        body = actual.json()
    except json.JSONDecodeError:
        if recorded != actual.text:
            yield f"body {recorded!r}, here {actual.text[:200]!r}"
        return
    yield from _value("body", "", recorded, body, known_values)


def _value(
    place: str, key: str, recorded_value: Any, present: Any, known_values: KnownValues
) -> Iterator[str]:
    if isinstance(recorded_value, dict) and isinstance(present, dict):
        for name in sorted(recorded_value.keys() | present.keys()):
            if name not in present:
                yield f"{place}.{name} is missing"
            elif name not in recorded_value:
                yield f"{place}.{name} should not be there: {present[name]!r}"
            else:
                yield from _value(
                    f"{place}.{name}", name, recorded_value[name], present[name], known_values
                )
    elif isinstance(recorded_value, list) and isinstance(present, list):
        if len(recorded_value) != len(present):
            yield f"{place} has {len(recorded_value)} items, here {len(present)}"
        for index, (old, new) in enumerate(zip(recorded_value, present, strict=False)):
            yield from _value(f"{place}[{index}]", key, old, new, known_values)
    elif type(recorded_value) is not type(present) or not _same(
        key, recorded_value, present, known_values
    ):
        yield f"{place} {recorded_value!r}, here {present!r}"


def _same(key: str, recorded_value: Any, present: Any, known_values: KnownValues) -> bool:
    """Whether two values of the same type agree."""
    if recorded_value == present:
        return True
    if isinstance(recorded_value, int) and not isinstance(recorded_value, bool):
        return key in _NUMBERS
    if not isinstance(recorded_value, str):
        return False
    if key in _TOKENS:
        known_values[recorded_value] = present
        return (
            bool(_JWT.fullmatch(present))
            if recorded_value == "<jwt>"
            else len(recorded_value) == len(present)
        )
    if key in _MOMENTS or key == "username_suggestions":
        return _shape(recorded_value) == _shape(present)
    if key in _RANDOM_TEXTS:
        return len(recorded_value) == len(present) and present.isalnum()
    return _WAIT.sub("N", recorded_value) == _WAIT.sub("N", present)
