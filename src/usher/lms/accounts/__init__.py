"""Learners' accounts, made as the platform's own registration makes them."""
