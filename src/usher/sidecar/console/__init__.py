"""Pages of a sidecar that watches, for the operator at this machine. They change nothing."""
