"""Celery's entry point: ``celery -A campus.worker worker``, and ``beat``.

Celery only wakes and spreads the work; a lost message is made good by the next sweep.
"""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "campus.settings")

app = Celery("campus")
app.config_from_object("django.conf:settings", namespace="CELERY")
# Named, not discovered: Celery looks for ``tasks`` beside an app, and these lie in a folder.
app.autodiscover_tasks(["usher.application.engine", "usher.application.provider"])
