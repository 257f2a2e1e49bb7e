"""Imitates the database load of the platform's receivers, with rows, statements and locks of the
kind and number that were measured on the platform. The setting ``PLATFORM_COSTS`` enables it, for
benchmarks and tests of locks."""
