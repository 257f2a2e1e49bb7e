def configure(command, binary, user=None):
    """Code jails are no part of the connection."""
