"""Compares an answer with the recorded one.

Status and body must be equal, and so must the headers in ``_HEADERS``: no header may be missing or
added. Values that differ in each replay (ids, times, tokens, states, codes, random names) are
compared by shape. Random values that later requests send back are stored in ``KnownValues``.
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
_URL_PARAMETERS = {"redirect_uri"}
#: Fields of JSON bodies whose values differ in each replay, by the way in which they are compared.
_TOKENS = {"access_token", "refresh_token"}
_TIMES = {"created", "date_joined", "last_login", "created_date", "modified_date", "modified"}
_NUMERIC_IDS = {"id", "user_id", "lms_user_id", "retirement_id"}
_RANDOM_TEXTS = {"activation_key", "uuid"}
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")
#: The seconds in a message about a rate limit.
_WAIT = re.compile(r"(?<=available in )\d+(?= second)")


class KnownValues(dict[str, str]):
    """Recorded random value → the value that the LMS answered in its place in this replay."""

    def translate(self, text: str) -> str:
        """``text`` of a recorded request, with the values of this replay."""
        for recorded, actual in self.items():
            text = text.replace(recorded, actual)
        return text


class _Title(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.is_in_title = False
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.is_in_title = tag == "title" and not self.text  # only the first title

    def handle_endtag(self, tag: str) -> None:
        self.is_in_title = False

    def handle_data(self, data: str) -> None:
        if self.is_in_title:
            self.text += data


def title_of(html: str) -> str:
    """The text of the page's first ``<title>``; '' if there is none."""
    parser = _Title()
    parser.feed(html)
    return " ".join(parser.text.split())


def _shape(text: str) -> str:
    """``text`` with each letter replaced by ``a`` and each digit by ``0``."""
    return re.sub(r"[A-Za-z]", "a", re.sub(r"\d", "0", text))


def find_differences(
    recorded: dict[str, Any], actual: httpx.Response, known_values: KnownValues
) -> list[str]:
    """One line for each difference between the recorded answer and the actual one; empty when they
    agree. If the answer has a random value (a state, a code or a token), stores in
    ``known_values`` which actual value replaces the recorded one."""
    sentences: list[str] = []
    if recorded["status"] != actual.status_code:
        sentences.append(f"status {recorded['status']}, here {actual.status_code}")
    sentences += _header_differences(recorded.get("headers", {}), actual, known_values)
    sentences += _body_differences(recorded.get("body", ""), actual, known_values)
    return sentences


def _header_differences(
    recorded: dict[str, Any], actual: httpx.Response, known_values: KnownValues
) -> Iterator[str]:
    for name in _HEADERS:
        recorded_value, actual_value = recorded.get(name), actual.headers.get(name)
        if name == "Location" and recorded_value is not None and actual_value is not None:
            yield from _location_differences(recorded_value, actual_value, known_values)
        elif recorded_value != actual_value:
            yield f"{name} {recorded_value!r}, here {actual_value!r}"
    recorded_cookies = sorted(recorded.get("Set-Cookie-Names", []))
    actual_cookies = sorted(actual.cookies.keys())
    if recorded_cookies != actual_cookies:
        yield f"cookies {recorded_cookies}, here {actual_cookies}"


def _location_differences(recorded: str, actual: str, known_values: KnownValues) -> Iterator[str]:
    """The differences between two redirect URLs. Stores random parameters in ``known_values``."""
    recorded_url, actual_url = urlsplit(recorded), urlsplit(actual)
    if recorded_url._replace(query="") != actual_url._replace(query=""):
        yield f"Location {recorded!r}, here {actual!r}"
        return
    recorded_parameters = parse_qsl(recorded_url.query, keep_blank_values=True)
    actual_parameters = parse_qsl(actual_url.query, keep_blank_values=True)
    # The names and their order must be equal.
    recorded_names = [name for name, _ in recorded_parameters]
    if recorded_names != [name for name, _ in actual_parameters]:
        yield f"Location's parameters {recorded_url.query!r}, here {actual_url.query!r}"
        return
    pairs = zip(recorded_parameters, actual_parameters, strict=True)
    for (name, recorded_value), (_, actual_value) in pairs:
        if name in _RANDOM_PARAMETERS and recorded_value and actual_value:
            known_values[recorded_value] = actual_value
            if len(recorded_value) != len(actual_value):
                lengths = f"{len(recorded_value)} characters, here {len(actual_value)}"
                yield f"Location's {name} has {lengths}"
        elif name in _URL_PARAMETERS:
            yield from _location_differences(recorded_value, actual_value, known_values)
        elif recorded_value != actual_value:
            yield f"Location's {name} {recorded_value!r}, here {actual_value!r}"
    has_random_value = (
        _RANDOM_PARAMETERS & set(recorded_names) or "redirect_uri" in recorded_url.query
    )
    # The encoding of the query must be equal, too.
    if not has_random_value and recorded_url.query != actual_url.query:
        yield f"Location's query {recorded_url.query!r}, here {actual_url.query!r}"


def _body_differences(
    recorded: Any, actual: httpx.Response, known_values: KnownValues
) -> Iterator[str]:
    # Of a page, only the title is recorded.
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
    yield from _value_differences("body", "", recorded, body, known_values)


def _value_differences(
    place: str, key: str, recorded_value: Any, actual_value: Any, known_values: KnownValues
) -> Iterator[str]:
    """The differences between two JSON values and the values in them. place: where they are in the
    body, for the line about a difference, such as ``body.results[0].id``. key: name of the field
    that has the value or the list around it; '' for the body."""
    if isinstance(recorded_value, dict) and isinstance(actual_value, dict):
        for name in sorted(recorded_value.keys() | actual_value.keys()):
            if name not in actual_value:
                yield f"{place}.{name} is missing"
            elif name not in recorded_value:
                yield f"{place}.{name} is not in the recording: {actual_value[name]!r}"
            else:
                yield from _value_differences(
                    f"{place}.{name}", name, recorded_value[name], actual_value[name], known_values
                )
    elif isinstance(recorded_value, list) and isinstance(actual_value, list):
        if len(recorded_value) != len(actual_value):
            yield f"{place} has {len(recorded_value)} items, here {len(actual_value)}"
        pairs = zip(recorded_value, actual_value, strict=False)
        for index, (recorded_item, actual_item) in enumerate(pairs):
            yield from _value_differences(
                f"{place}[{index}]", key, recorded_item, actual_item, known_values
            )
    elif type(recorded_value) is not type(actual_value) or not _compare_values(
        key, recorded_value, actual_value, known_values
    ):
        yield f"{place} {recorded_value!r}, here {actual_value!r}"


def _compare_values(
    key: str, recorded_value: Any, actual_value: Any, known_values: KnownValues
) -> bool:
    """Compares two values of the same type, and returns whether they agree. key: the name of their
    field, which says whether they are random. Stores an access or refresh token in
    ``known_values``."""
    if recorded_value == actual_value:
        return True
    if isinstance(recorded_value, int) and not isinstance(recorded_value, bool):
        return key in _NUMERIC_IDS
    if not isinstance(recorded_value, str):
        return False
    if key in _TOKENS:
        known_values[recorded_value] = actual_value
        return (
            bool(_JWT.fullmatch(actual_value))
            if recorded_value == "<jwt>"  # recorded in place of a JSON Web Token
            else len(recorded_value) == len(actual_value)
        )
    if key in _TIMES or key == "username_suggestions":  # suggestions end in random digits
        return _shape(recorded_value) == _shape(actual_value)
    if key in _RANDOM_TEXTS:
        return len(recorded_value) == len(actual_value) and actual_value.isalnum()
    return _WAIT.sub("N", recorded_value) == _WAIT.sub("N", actual_value)
