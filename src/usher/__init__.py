"""Usher joins a Django application to Open edX: one account, one sign-in, records kept right.

Each subpackage runs in a different place (see ``docs/architecture.md``).
"""

__version__ = "0.1.0"
