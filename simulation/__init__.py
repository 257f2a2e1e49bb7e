"""``make simulate``: the real engine under a seeded scheduler, with virtual time and a model of the
LMS. Read ``docs/simulation.md``."""
