"""Tells the applications that something changed: an outbox in the LMS database, sent as webhooks.

A message only says what to look at; its receiver asks for the state. So messages may be repeated
or arrive out of order, and a lost one is found by the application's own sweep.
"""
