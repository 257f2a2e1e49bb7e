"""The audit log of sign-ins, provisioning and the use of secrets."""
