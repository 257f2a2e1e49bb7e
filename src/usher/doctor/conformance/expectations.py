"""Reads the expectation files. All that is known about the LMS's answers is in these files."""

from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

_FOLDER = files(__package__) / "expectations"


@dataclass(frozen=True)
class Expectation:
    """One fact about an endpoint. says: the fact, in a sentence. headers: name → shape; None for a
    header that is not compared.

    actor: who sends the request: ``worker``, ``learner``, ``nobody``, ``stranger`` (unknown token),
    ``expired`` (expired token), ``learner_session`` (a learner's cookies). writes: whether the
    request changes the LMS; it is then sent with ``--write`` only. skip_reason: why conformance
    never sends it, or ''. failure: the class of the failure for a client (``contract.failures``),
    '' for no failure. feature: the platform's setting that the endpoint needs, or ''. needs_mode:
    the mode that the run must offer, or ''. limits: ``count`` or ``at_most`` → the number of
    results. keep: values for later requests: name → the regular expression that finds the value in
    the Location header or the body. source: the numbers of the recorded exchanges.
    """

    id: str
    endpoint: str
    says: str
    actor: str
    request: dict[str, Any]
    status: int
    headers: dict[str, str | None]
    body: Any
    source: tuple[int, ...]
    writes: bool = False
    skip_reason: str = ""
    needs_mode: str = ""
    failure: str = ""
    feature: str = ""
    limits: dict[str, int] = field(default_factory=dict)
    keep: dict[str, str] = field(default_factory=dict)


@cache
def load() -> tuple[Expectation, ...]:
    """All expectations, in the order of the requests: a request may need values of the answers
    before it."""
    shapes = yaml.safe_load((_FOLDER / "shapes.yaml").read_text(encoding="utf-8"))
    expectations = []
    for name in FILES_IN_ORDER:
        text = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
        for endpoint in yaml.safe_load_all(text):
            expectations += [
                _expectation(endpoint, entry, shapes) for entry in endpoint["expectations"]
            ]
    return tuple(expectations)


#: The expectation files, in the order in which their requests are sent.
FILES_IN_ORDER = (
    "me",
    "courses",
    "registration",
    "accounts",
    "enrollments",
    "records",
    "tokens",
    "sign_in",
)


def _expectation(
    endpoint: dict[str, Any], entry: dict[str, Any], shapes: dict[str, Any]
) -> Expectation:
    """One expectation of an endpoint. endpoint: the YAML document with what its expectations have
    in common; entry: one of its ``expectations``; shapes: the content of ``shapes.yaml``."""
    expect = entry["expect"]
    return Expectation(
        id=entry["id"],
        endpoint=endpoint["endpoint"],
        says=entry["says"],
        actor=entry["as"],
        request=entry["request"],
        status=expect["status"],
        headers={**endpoint.get("headers", {}), **expect.get("headers", {})},
        body=_replace_shape_names(expect.get("body", "<any>"), shapes),
        source=tuple(entry["source"]),
        writes=entry.get("writes", False),
        skip_reason=entry.get("skip_reason", ""),
        failure=entry.get("failure", ""),
        feature=endpoint.get("feature", ""),
        needs_mode=entry.get("needs_mode", ""),
        keep=entry.get("keep", {}),
        limits={name: expect[name] for name in ("count", "at_most") if name in expect},
    )


def _replace_shape_names(shape: Any, shapes: dict[str, Any]) -> Any:
    """The shape with each ``$name`` in it replaced by the shape ``name`` of ``shapes.yaml``."""
    if isinstance(shape, str) and shape.startswith("$"):
        return _replace_shape_names(shapes[shape[1:]], shapes)
    if isinstance(shape, dict):
        return {key: _replace_shape_names(part, shapes) for key, part in shape.items()}
    if isinstance(shape, list):
        return [_replace_shape_names(part, shapes) for part in shape]
    return shape
