"""Pages for operators and support staff: records that are in sync, records that are not, the
reasons, and repairs."""
