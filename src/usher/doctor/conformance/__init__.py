"""Does this LMS answer as the recorded one? The expectations are data, in ``expectations/``."""
