"""The body of one answer as it comes: bounded, and decompressed where it is compressed.

No request of the client asks for compression. A proxy may compress all the same, so one layer of
gzip or deflate is read, never expanding further than the limit.
"""

from __future__ import annotations

import zlib

from usher.client.errors import BadAnswer

_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class Body:
    """encoding: the answer's Content-Encoding. limit: bytes of the decompressed body."""

    def __init__(self, encoding: str, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._left = limit
        self._expander = None
        name = encoding.strip().lower()
        if name in _WINDOW:
            self._expander = zlib.decompressobj(_WINDOW[name])
        elif name not in ("", "identity"):
            raise BadAnswer(
                "The LMS's answer is compressed in a way that was not asked for "
                f"({ascii(encoding)[:60]})."
            )

    def add(self, part: bytes) -> None:
        """Raises BadAnswer when the body is too large, or not what its encoding says."""
        if self._expander is not None:
            try:
                # One byte more than may come tells that there is more.
                part = self._expander.decompress(part, self._left + 1)
            except zlib.error as error:
                raise BadAnswer("The LMS's answer can't be decompressed.") from error
        self._left -= len(part)
        if self._left < 0:
            raise BadAnswer(f"The LMS sent more than {self._limit} bytes.")
        self._parts.append(part)

    def whole(self) -> bytes:
        """Raises BadAnswer when the end of compressed data is missing."""
        if self._expander is not None and not self._expander.eof and any(self._parts):
            raise BadAnswer("The LMS's answer ends in the middle of its compressed data.")
        return b"".join(self._parts)
