"""Compares an answer with the recorded one.

Status, recorded headers and body must be equal, and there must be no other headers of these
kinds. Values that differ in every run (ids, times, tokens, states, codes, random names) are
compared by shape. Values that later requests repeat are remembered.
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


class Learned(dict[str, str]):
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


def differences(recorded: dict[str, Any], actual: httpx.Response, learned: Learned) -> list[str]:
    """One line for each difference; empty when the answers agree."""
    found: list[str] = []
    if recorded["status"] != actual.status_code:
        found.append(f"status {recorded['status']}, here {actual.status_code}")
    found += _headers(recorded.get("headers", {}), actual, learned)
    found += _body(recorded.get("body", ""), actual, learned)
    return found


def _headers(recorded: dict[str, Any], actual: httpx.Response, learned: Learned) -> Iterator[str]:
    for name in _HEADERS:
        was, there = recorded.get(name), actual.headers.get(name)
        if name == "Location" and was is not None and there is not None:
            yield from _location(was, there, learned)
        elif was != there:
            yield f"{name} {was!r}, here {there!r}"
    was_set = sorted(recorded.get("Set-Cookie-Names", []))
    is_set = sorted(actual.cookies.keys())
    if was_set != is_set:
        yield f"cookies {was_set}, here {is_set}"


def _location(recorded: str, actual: str, learned: Learned) -> Iterator[str]:
    was, there = urlsplit(recorded), urlsplit(actual)
    if was._replace(query="") != there._replace(query=""):
        yield f"Location {recorded!r}, here {actual!r}"
        return
    before = parse_qsl(was.query, keep_blank_values=True)
    now = parse_qsl(there.query, keep_blank_values=True)
    # If nothing is random, the order and the encoding count as well.
    if [name for name, _ in before] != [name for name, _ in now]:
        yield f"Location's parameters {was.query!r}, here {there.query!r}"
        return
    for (name, old), (_, new) in zip(before, now, strict=True):
        if name in _RANDOM_PARAMETERS and old and new:
            learned[old] = new
            if len(old) != len(new):
                yield f"Location's {name} has {len(old)} characters, here {len(new)}"
        elif name in _NESTED:
            yield from _location(old, new, learned)
        elif old != new:
            yield f"Location's {name} {old!r}, here {new!r}"
    random = _RANDOM_PARAMETERS & {name for name, _ in before} or "redirect_uri" in was.query
    if not random and was.query != there.query:
        yield f"Location's query {was.query!r}, here {there.query!r}"


def _body(recorded: Any, actual: httpx.Response, learned: Learned) -> Iterator[str]:
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
    yield from _value("body", "", recorded, body, learned)


def _value(place: str, key: str, was: Any, there: Any, learned: Learned) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(there, dict):
        for name in sorted(was.keys() | there.keys()):
            if name not in there:
                yield f"{place}.{name} is missing"
            elif name not in was:
                yield f"{place}.{name} should not be there: {there[name]!r}"
            else:
                yield from _value(f"{place}.{name}", name, was[name], there[name], learned)
    elif isinstance(was, list) and isinstance(there, list):
        if len(was) != len(there):
            yield f"{place} has {len(was)} items, here {len(there)}"
        for index, (old, new) in enumerate(zip(was, there, strict=False)):
            yield from _value(f"{place}[{index}]", key, old, new, learned)
    elif type(was) is not type(there) or not _same(key, was, there, learned):
        yield f"{place} {was!r}, here {there!r}"


def _same(key: str, was: Any, there: Any, learned: Learned) -> bool:
    """Two values of one type."""
    if was == there:
        return True
    if isinstance(was, int) and not isinstance(was, bool):
        return key in _NUMBERS
    if not isinstance(was, str):
        return False
    if key in _TOKENS:
        learned[was] = there
        return bool(_JWT.fullmatch(there)) if was == "<jwt>" else len(was) == len(there)
    if key in _MOMENTS or key == "username_suggestions":
        return _shape(was) == _shape(there)
    if key in _RANDOM_TEXTS:
        return len(was) == len(there) and there.isalnum()
    return _WAIT.sub("N", was) == _WAIT.sub("N", there)
