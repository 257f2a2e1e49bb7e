"""The Tutor plugin: configures the LMS through Tutor's hooks and patches instead of edits to
generated files."""
