"""Pages of a sidecar with ``--watch``, for the operator at this machine. They change nothing."""
