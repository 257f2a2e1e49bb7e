"""Converts letters of other alphabets to the Latin letters that LMS usernames may contain."""

from __future__ import annotations

import re
import unicodedata

#: Letters without a base letter in Unicode's tables → Latin letters.
_LATIN = {"ß": "ss", "ẞ": "Ss", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d", "ŋ": "ng", "ə": "e"}
#: Greek and Cyrillic letters, each with its Latin letters; signs without a sound have none.
_OTHER_ALPHABETS = (
    "α=a β=v γ=g δ=d ε=e ζ=z η=i θ=th ι=i κ=k λ=l μ=m ν=n ξ=x ο=o π=p ρ=r σ=s ς=s τ=t υ=y φ=f "
    "χ=ch ψ=ps ω=o а=a б=b в=v г=g д=d е=e ж=zh з=z и=i й=y к=k л=l м=m н=n о=o п=p р=r с=s т=t "
    "у=u ф=f х=kh ц=ts ч=ch ш=sh щ=shch ъ= ы=y ь= э=e ю=yu я=ya і=i ї=yi є=ye ґ=g ў=u ђ=dj ј=j "
    "љ=lj њ=nj ћ=c џ=dz"
)
_LETTERS = _LATIN | {
    letter: latin for letter, _, latin in (pair.partition("=") for pair in _OTHER_ALPHABETS.split())
}
#: Unicode's name of a letter, such as "LATIN SMALL LETTER L WITH STROKE". The group is the base
#: letter.
_NAME_OF_LATIN_LETTER = re.compile(
    r"LATIN (?:SMALL|CAPITAL) LETTER (?:DOTLESS )?([A-Z])(?: WITH .*)?"
)


def in_latin_letters(text: str) -> str:
    """``text`` without accents, with letters of other alphabets where they are known.

    >>> in_latin_letters("Łukasz Żółć, Søren, Иван")
    'Lukasz Zolc, Soren, Ivan'
    """
    # First by the table: Unicode would decompose й and ї into и and і with an accent.
    latin = "".join(_letter(char) for char in unicodedata.normalize("NFC", text))
    plain = unicodedata.normalize("NFKD", latin)
    return "".join(_letter(char) for char in plain if not unicodedata.combining(char))


def _letter(char: str) -> str:
    """The Latin letters for one character; the character itself if none are known."""
    if char.isascii():
        return char
    lower = char.lower()
    if (letters := _LETTERS.get(lower)) is not None:
        return letters.capitalize() if char != lower else letters
    letter_name = _NAME_OF_LATIN_LETTER.fullmatch(unicodedata.name(char, ""))
    if letter_name is None:
        return char
    # A capital letter without a small one equals its ``lower``.
    is_small = char == lower and not char.isupper()
    return letter_name[1].lower() if is_small else letter_name[1]
