"""What is wrong, why, and what to do: the checks behind ``usher doctor`` and the staff page.

``run(context)`` runs the checks that apply and answers a ``Report``; ``conformance`` compares an
LMS's answers with the recorded ones.
"""
