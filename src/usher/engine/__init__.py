"""A reconciler: changes another system until it matches the desired state in the database.

The Django app is independent of the objects that it reconciles. A project registers its kinds of
objects and the other system with ``registry.register`` in ``AppConfig.ready()``.
"""
