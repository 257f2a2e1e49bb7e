"""Signing out on one side ends the session on the other, server to server (P28).

Frames don't send SameSite=Lax cookies, so the list of sign-out addresses is not enough.
"""
