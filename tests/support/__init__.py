"""Helpers for several test folders: real servers, browsers, faults."""
