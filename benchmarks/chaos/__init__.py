"""``make chaos``: causes faults while workers run; in the end the application and the LMS must
agree."""
