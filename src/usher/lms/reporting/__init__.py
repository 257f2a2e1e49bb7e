"""``usher_report``: facts about this LMS for doctor, with fingerprints in place of secrets."""
