"""The sources of facts: each fact is collected once, when a check first needs it."""
