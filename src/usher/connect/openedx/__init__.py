"""The LMS as Tutor runs it: instance, configuration, jobs, leftovers."""
