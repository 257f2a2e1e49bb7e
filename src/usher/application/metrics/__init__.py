"""Metrics for Prometheus at ``/metrics``.

Each process counts outcomes and durations, and adds them to a table that all processes share. Each
scrape reads these sums, and counts the rows that are due and refused at that moment.
"""
