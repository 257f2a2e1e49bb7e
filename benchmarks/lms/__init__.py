"""The benchmark LMS: one process that answers like an Open edX LMS after 50 ms, with little
processor time."""
