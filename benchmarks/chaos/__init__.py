"""The proof under faults: everything breaks while the engine works, and in the end both sides are
as wanted. ``make chaos``."""
