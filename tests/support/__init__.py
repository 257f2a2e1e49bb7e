"""Helpers for tests of several packages: real servers, browsers, faults."""
