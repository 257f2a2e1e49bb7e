"""The LMS, run by Tutor or embedded: configuration, jobs, leftovers, server process."""
