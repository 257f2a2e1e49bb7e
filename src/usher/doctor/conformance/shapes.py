"""Compares a value with a shape of the expectation files (see ``shapes.yaml``)."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

Variables = Mapping[str, str]

#: ``{name}`` or ``{name:raw}``.
_VARIABLE = re.compile(r"\{(\w+)(?::raw)?\}")


def differences(shape: Any, value: Any, variables: Variables, place: str = "body") -> list[str]:
    """A sentence for each place where ``value`` differs from ``shape``."""
    if isinstance(shape, dict):
        return _object_differences(shape, value, variables, place)
    if isinstance(shape, list):
        return _list_differences(shape, value, variables, place)
    if isinstance(shape, str):
        fits = _text_fits(shape, value, variables)
    else:
        # The type as well, since True == 1.
        fits = type(shape) is type(value) and shape == value
    return [] if fits else [f"{place} is {_short(value)}, expected {_short(shape)}"]


def _object_differences(
    shape: dict[str, Any], value: Any, variables: Variables, place: str
) -> list[str]:
    if not isinstance(value, dict):
        return [f"{place} is {_short(value)}, expected an object"]
    sentences = []
    for key, part in shape.items():
        name = key.removesuffix("?")
        if name in value:
            sentences += differences(part, value[name], variables, f"{place}.{name}")
        elif not key.endswith("?"):
            sentences.append(f"{place}.{name} is missing")
    return sentences


def _list_differences(shape: list[Any], value: Any, variables: Variables, place: str) -> list[str]:
    """shape: a list with one element, the shape of every item."""
    if not isinstance(value, list):
        return [f"{place} is {_short(value)}, expected a list"]
    [shape_of_items] = shape
    sentences = []
    for index, item in enumerate(value):
        sentences += differences(shape_of_items, item, variables, f"{place}[{index}]")
    return sentences


def _text_fits(shape: str, value: Any, variables: Variables) -> bool:
    """Whether the value fits a shape that is written as text: ``<type>``, ``~expression``, a text
    with ``{name}``, or the text itself."""
    if shape.startswith("<") and shape.endswith(">"):
        return any(_TYPES[type_name](value) for type_name in shape[1:-1].split("|"))
    if not isinstance(value, str):
        return False
    if shape.startswith("~"):
        return re.search(shape[1:], value) is not None
    if _VARIABLE.search(shape):
        return re.fullmatch(as_pattern(shape, variables), value) is not None
    return shape == value


def as_pattern(template: str, variables: Variables) -> str:
    """``template`` as a regular expression, in which unknown values match anything."""
    pattern, end = "", 0
    for match in _VARIABLE.finditer(template):
        value = variables.get(match[1])
        pattern += re.escape(template[end : match.start()])
        pattern += ".+" if value is None else re.escape(value)
        end = match.end()
    return pattern + re.escape(template[end:])


def names_in(template: Any) -> set[str]:
    """The names of the values that a request needs."""
    if isinstance(template, str):
        return set(_VARIABLE.findall(template))
    if isinstance(template, dict):
        return set().union(*(names_in(part) for part in template.values()))
    if isinstance(template, list):
        return set().union(*(names_in(part) for part in template))
    return set()


def _is_time(value: Any) -> bool:
    """Whether the value is a text in ISO 8601 with a date and a time, not a date alone."""
    if not isinstance(value, str):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return "T" in value


#: Name of a type in a shape, such as ``<int>`` → whether a value has it.
_TYPES = {
    "any": lambda value: True,
    "text": lambda value: isinstance(value, str),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "time": _is_time,
    "url": lambda value: isinstance(value, str) and re.match(r"(https?:/)?/", value) is not None,
}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and value.startswith("<") else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
