"""The ``usher`` command: thin click commands over the other packages."""
