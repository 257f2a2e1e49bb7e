"""Celery's entry point: ``celery -A campus.worker worker``, and ``beat``.

Celery only wakes and spreads the work; a lost message is made good by the next sweep.
"""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "campus.settings")

app = Celery("campus")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
