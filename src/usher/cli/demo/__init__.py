"""The demo: application and embedded LMS, connected, and a test learner who uses both."""
