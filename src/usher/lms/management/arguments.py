"""Types of the commands' arguments."""

from __future__ import annotations

from argparse import ArgumentTypeError

from usher.contract.failures import is_storable


def name(text: str) -> str:
    """A name to look up in the database. Bytes that are no UTF-8 reach Python as halves of
    surrogate pairs, which no database accepts."""
    if not is_storable(text):
        raise ArgumentTypeError(f"{text!a} is not UTF-8 text")
    return text
