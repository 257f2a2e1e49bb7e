"""Numbers for Prometheus at ``/metrics``.

What happened (outcomes, durations) is counted in each process and added to a table, so that web
processes and workers on any machine give one sum. What there is (rows due, rows refused) is asked
of the database by each scrape.
"""
