"""``usher_report``: what this LMS is like, for doctor. Facts and fingerprints, never secrets."""
