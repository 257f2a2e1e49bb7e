"""Brings the records of this LMS to what one description says, and takes them away again."""
