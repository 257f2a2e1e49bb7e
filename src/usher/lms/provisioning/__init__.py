"""Creates and updates the records of this LMS from a description, and removes them again."""
