"""Keeps an application that is not built on Usher in step with the LMS; its code stays as it is."""
