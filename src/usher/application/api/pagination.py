from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request


class Pages(CursorPagination):
    """Pages by id, not by number: the last page of a long list is as fast as the first."""

    ordering = "id"

    def decode_cursor(self, request: Request) -> Any:
        """Answers 404 if the cursor's position is not an id, as in a cursor made up by a client."""
        cursor: Cursor | None = super().decode_cursor(request)
        position = cursor.position if cursor else None
        if position is not None and not (position.isascii() and position.isdigit()):
            raise NotFound(self.invalid_cursor_message)
        if position is not None and len(position) > 18:
            raise NotFound(self.invalid_cursor_message)
        return cursor
