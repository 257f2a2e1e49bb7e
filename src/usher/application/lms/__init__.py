"""The LMS as the engine sees it: what its answers prove, and what differs from it."""
