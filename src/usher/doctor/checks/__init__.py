"""The checks, one file for each family; ``usher.doctor.check.all_checks`` finds them."""
