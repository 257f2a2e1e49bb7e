"""Signing out of the application ends the LMS session, and the reverse, server to server.

Frames don't send SameSite=Lax cookies, so the list of sign-out addresses is not enough.
"""
