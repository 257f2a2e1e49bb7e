"""Bodies of answers, which may hold anything."""

from __future__ import annotations

import json
from typing import Any


def json_object(body: bytes | str) -> dict[str, Any]:
    """The JSON object in a body; {} if the body is something else, also if it is nested too
    deeply for the parser."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
