"""The checks, one file a family; ``usher.doctor.check.all_checks`` finds them."""
