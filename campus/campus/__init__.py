"""campus: the reference application, in the editions ``mitxonline`` and ``mitxpro``."""

from campus.worker import app as celery_app

__all__ = ["celery_app"]
