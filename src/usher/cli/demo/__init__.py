"""The demo: both sides on one machine, joined, and a learner walked through them."""
