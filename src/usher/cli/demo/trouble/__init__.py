"""``usher demo --trouble``: a demo in which thirty things are broken, to practise support."""
