"""For tests: a transport of httpx in place of a connection to an LMS."""

from __future__ import annotations

from email.message import Message

import httpx

from usher.client.body import MAX_BODY, Body, Received
from usher.client.errors import TimedOut, Unreachable
from usher.client.outgoing import Outgoing


class Substitute:
    """``transport``, such as an ``httpx.MockTransport``, answers all requests to ``base_url``."""

    def __init__(self, transport: httpx.BaseTransport, base_url: str) -> None:
        self._transport, self._base_url = transport, base_url

    def exchange(self, outgoing: Outgoing, timeout: float) -> Received:
        request = httpx.Request(
            outgoing.method,
            outgoing.url,
            headers=outgoing.headers,
            content=outgoing.content,
            extensions={"timeout": {"read": timeout}},
        )
        try:
            response = self._transport.handle_request(request)
            return Received(response.status_code, _headers(response), _read_body(response))
        except httpx.TimeoutException as error:
            raise TimedOut.after(outgoing.path, timeout) from error
        except httpx.ConnectError as error:
            raise Unreachable.not_connected(self._base_url, error) from error
        except (httpx.TransportError, httpx.StreamError) as error:
            raise Unreachable.broken_off(outgoing.path, str(error)) from error

    def close(self) -> None:
        self._transport.close()


def _headers(response: httpx.Response) -> Message:
    headers = Message()
    for name, value in response.headers.multi_items():
        headers[name] = value
    return headers


def _read_body(response: httpx.Response) -> bytes:
    if response.is_stream_consumed:
        return response.content
    body = Body(response.headers.get("content-encoding", ""), MAX_BODY)
    for part in response.iter_raw():
        body.add(part)
    return body.whole()
