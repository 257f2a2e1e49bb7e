def configure(command, binary, user=None):
    """Does nothing: the connection does not use code jails."""
