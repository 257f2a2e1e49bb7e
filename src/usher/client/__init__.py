"""The Open edX client: httpx, typed answers, one tree of errors. No Django; usable alone."""
