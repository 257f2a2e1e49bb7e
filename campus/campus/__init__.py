"""campus: the reference application, in the editions ``mitxonline`` and ``mitxpro``."""
