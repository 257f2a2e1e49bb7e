"""The ``usher`` command: a thin layer of click commands over the rooms."""
