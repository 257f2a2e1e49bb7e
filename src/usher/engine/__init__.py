"""A reconciler: changes another system until it is as wanted here, and keeps it so.

A Django app that knows nothing of what it reconciles. A project registers its kinds of objects and
the other system (``registry``) in ``AppConfig.ready()``.
"""
