from rest_framework.pagination import CursorPagination


class Pages(CursorPagination):
    """Pages by key, not by number: as fast at the end of a long list as at its start."""

    ordering = "id"
