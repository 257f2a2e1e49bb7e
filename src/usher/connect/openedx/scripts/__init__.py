"""Scripts that run in Tutor's own Python, on its standard input."""
