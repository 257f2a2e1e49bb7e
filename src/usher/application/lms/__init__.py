"""Connects the engine to the LMS; decides which of its answers to trust; lists differences."""
