"""``make chaos``: faults everywhere while workers run; in the end the application and the LMS must
agree."""
