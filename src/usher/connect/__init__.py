"""``usher connect`` and ``usher disconnect``: plan, apply, verify, undo.

Both commands examine the application and the LMS before the first change. Each step checks first
whether it is still needed, so an interrupted run is completed by running the command again.
"""
