"""Ends a learner's sessions in the LMS and in the application together, server to server.

The platform's list of sign-out addresses is not enough: browsers open these addresses in frames,
which don't send SameSite=Lax cookies.
"""
