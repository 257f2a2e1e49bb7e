"""What the platform does beside an enrollment, and what it costs a database: rows, statements and
locks of the kind and number that were seen there. Switched on by ``PLATFORM_COSTS``, for
measurements and for tests of locks."""
