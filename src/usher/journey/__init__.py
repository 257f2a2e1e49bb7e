"""Signs a temporary test learner in to the LMS through the application, and removes the learner.

It needs no Django and imports only ``usher.contract``. It creates and removes the learner with the
application's own ``manage.py shell``.
"""
