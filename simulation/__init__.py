"""``make simulate``: runs the real sync worker under a seeded scheduler, with virtual time and a
model of the LMS. See ``docs/simulation.md``."""
