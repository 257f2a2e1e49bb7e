"""Requests to applications. An application may answer with anything, and must not stop the LMS."""

from __future__ import annotations

import time
from typing import Any

import requests
from urllib3.exceptions import HTTPError

#: What a request may raise. requests does not wrap all errors of urllib3, and a malformed address
#: or header raises ValueError.
NO_ANSWER = (requests.RequestException, HTTPError, ValueError)
#: Bytes of an answer that are read at a time.
_PORTION = 16 * 1024


class Session(requests.Session):
    """A session that ignores redirects.

    With ``allow_redirects=False`` alone, requests reads the whole body of a redirect, whatever its
    length, and parses its address.
    """

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


def read_body(answer: requests.Response, *, longest: int, seconds: float) -> bytes:
    """The body of an answer to a request with ``stream=True``. Raises ValueError if it has more
    than ``longest`` bytes or takes longer than ``seconds``, and what ``NO_ANSWER`` names."""
    deadline = time.monotonic() + seconds
    body = b""
    for part in answer.iter_content(_PORTION):
        body += part
        if len(body) > longest or time.monotonic() > deadline:
            raise ValueError("the answer is too long or too slow")
    return body


def send(method: str, url: str, **options: Any) -> requests.Response:
    """Send one request; its answer is not read yet. Close it. Raises what ``NO_ANSWER`` names."""
    with Session() as session:
        return session.request(method, url, allow_redirects=False, stream=True, **options)
