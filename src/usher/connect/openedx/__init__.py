"""The LMS's side as Tutor runs it: instance, configuration, jobs, what is left over."""
