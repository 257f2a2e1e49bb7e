"""Pages for operators and support staff: what is in sync, what isn't and why, and its repair."""
