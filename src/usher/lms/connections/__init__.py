"""The connected applications and their service workers."""
