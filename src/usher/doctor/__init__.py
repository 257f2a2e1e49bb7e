"""The checks behind ``usher doctor`` and the staff page: what fails, why, and the fix.

``run(context)`` runs the checks that apply and answers a ``Report``; ``conformance`` compares an
LMS's answers with the recorded ones.
"""
