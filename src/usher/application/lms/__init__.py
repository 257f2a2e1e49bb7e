"""Connects the engine to the LMS; decides which of the LMS's answers to trust; lists
differences."""
