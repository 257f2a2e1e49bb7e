from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request


class Pages(CursorPagination):
    """Pages that begin after an id. The last page of a long list is as fast as the first."""

    ordering = "id"
    #: Longer ids may exceed a database's 64 bits.
    max_digits = 18

    def decode_cursor(self, request: Request) -> Any:
        """Answers 404 if the cursor's position is not an id, for example because a client invented
        the cursor."""
        cursor: Cursor | None = super().decode_cursor(request)
        position = cursor.position if cursor else None
        if position is None:
            return cursor
        is_number = position.isascii() and position.isdigit()
        if not is_number or len(position) > self.max_digits:
            raise NotFound(self.invalid_cursor_message)
        return cursor
