from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request


class Pages(CursorPagination):
    """Pages by key, not by number: as fast at the end of a long list as at its start."""

    ordering = "id"

    def decode_cursor(self, request: Request) -> Any:
        """A cursor that we did not make is no page: its place must be an id."""
        cursor: Cursor | None = super().decode_cursor(request)
        position = cursor.position if cursor else None
        if position is not None and not (position.isascii() and position.isdigit()):
            raise NotFound(self.invalid_cursor_message)
        if position is not None and len(position) > 18:
            raise NotFound(self.invalid_cursor_message)
        return cursor
