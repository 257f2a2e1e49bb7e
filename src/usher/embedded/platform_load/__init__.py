"""Imitates the database load of the platform's receivers: rows, statements and locks of the kind
and number measured there. Enabled by ``PLATFORM_COSTS``, for benchmarks and tests of locks."""
