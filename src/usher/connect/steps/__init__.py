"""The steps of ``usher connect``, by the thing that they change."""
