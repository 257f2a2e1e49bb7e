"""The batch API under ``/usher/api/v1/``: hundreds of items a request, for the service worker.

For each item the batch API writes the same rows and sends the same signals as the platform's own
APIs, with fewer requests and queries and without their rate limits.
"""
