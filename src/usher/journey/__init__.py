"""A throw-away learner, walked from the LMS through the application and back, then removed.

It needs no Django and imports only ``usher.contract``; the application is reached by its own
``manage.py shell``.
"""
