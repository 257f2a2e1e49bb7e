"""Keeps the LMS in sync with an application that is not built on Usher, without changing its
code."""
