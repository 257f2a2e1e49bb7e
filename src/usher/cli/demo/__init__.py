"""The demo: the reference application and the embedded LMS, joined, with a learner walked through."""
