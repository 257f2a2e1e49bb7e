"""``usher connect`` and ``usher disconnect``: plan, apply, verify, undo.

Everything is looked at before the first change; every step looks whether it is still needed before
it acts. There is no journal: a run that was cut off at any point is finished by running it again.
"""
