"""The batch API under ``/usher/api/v1/``: hundreds of items a request, for the service worker.

It leaves the same rows and sends the same signals as the platform's own APIs, item by item; what
it saves is requests, limits and look-ups.
"""
