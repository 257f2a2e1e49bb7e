"""Notifies applications of changes: an outbox in the LMS database, sent as webhooks.

A message only names what changed; the receiver then reads the state from the LMS. So messages may
be repeated or arrive out of order, and the application's own sweep finds a change whose message
was lost.
"""
