"""Celery's entry point: ``celery -A campus.worker worker``, and ``beat``.

Celery only starts and distributes the work; if a message is lost, the next sweep finds the rows.
"""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "campus.settings")

app = Celery("campus")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
