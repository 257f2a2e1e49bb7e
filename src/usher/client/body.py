"""Reads the body of an answer part by part: limited in size, and decompressed if needed.

The client never asks for compression. A proxy may compress nevertheless, so one layer of gzip or
deflate is decompressed, up to the limit.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from email.message import Message

from usher.client.errors import BadAnswer

#: The largest answer that is read, in bytes. A page of a hundred runs is some 100 kB.
MAX_BODY = 8 * 1024 * 1024
_WINDOW_BITS = {
    "gzip": 16 + zlib.MAX_WBITS,
    "x-gzip": 16 + zlib.MAX_WBITS,
    "deflate": zlib.MAX_WBITS,
}


@dataclass(frozen=True)
class Received:
    """An answer as read from a connection. body: the whole body, decompressed."""

    status: int
    headers: Message = field(repr=False)
    body: bytes = field(repr=False)


class Body:
    """Collects and decompresses the parts of an answer's body. encoding: the answer's
    Content-Encoding. limit: the most bytes, decompressed. Raises BadAnswer for an unknown
    encoding."""

    def __init__(self, encoding: str, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._bytes_left = limit
        self._decompressor = None
        name = encoding.strip().lower()
        if name in _WINDOW_BITS:
            self._decompressor = zlib.decompressobj(_WINDOW_BITS[name])
        elif name not in ("", "identity"):
            raise BadAnswer(
                f"The LMS's answer has the Content-Encoding {ascii(encoding)[:60]}, which the "
                "client can't read."
            )

    def add(self, part: bytes) -> None:
        """Adds the next part. Raises BadAnswer if the body is too large or can't be
        decompressed."""
        if self._decompressor is not None:
            try:
                # One byte above the limit shows that the body is too large.
                part = self._decompressor.decompress(part, self._bytes_left + 1)
            except zlib.error as error:
                raise BadAnswer("The LMS's answer can't be decompressed.") from error
            if self._decompressor.unused_data:  # zlib keeps all of it, however much there is
                raise BadAnswer("The LMS's answer continues after the end of its compressed data.")
        self._bytes_left -= len(part)
        if self._bytes_left < 0:
            raise BadAnswer(f"The LMS sent more than {self._limit} bytes.")
        self._parts.append(part)

    def whole(self) -> bytes:
        """The whole body. Raises BadAnswer if compressed data ends too early."""
        if self._decompressor is not None and not self._decompressor.eof and any(self._parts):
            raise BadAnswer("The LMS's answer ends in the middle of its compressed data.")
        return b"".join(self._parts)
