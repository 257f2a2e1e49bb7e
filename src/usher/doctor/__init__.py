"""The checks of ``usher doctor`` and of the staff page: what fails, why, and the fix.

``run(context)`` runs the checks that apply and returns a ``Report``; ``conformance`` compares an
LMS's answers with the recorded ones.
"""
