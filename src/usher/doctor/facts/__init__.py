"""Where facts come from: each is gathered once, when a check first asks for it."""
