"""Checks whether an LMS answers as the recorded one. The expectations are data, in
``expectations/``."""
