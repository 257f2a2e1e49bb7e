"""Benchmarks against edx-api-client called serially, and tests under faults; see
``docs/benchmarks.md``."""
