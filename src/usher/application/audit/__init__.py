"""Who did what to whom: sign-ins, provisioning and the use of secrets."""
