"""Benchmarks against what is used today, and the proof under faults; see ``docs/benchmarks.md``."""
