"""Secret values of settings, and how messages are kept free of them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from usher.contract.environment import SECRET_KEYS

#: Secrets with fewer characters are hidden only behind the name of their setting, or as the
#: password in an address.
MIN_SECRET_LENGTH = 8
#: Words in the names of secret settings, including the application's own. ``KEYCLOAK_URL`` is none.
_SECRET_NAME = re.compile(
    r"KEY(?!CLOAK)|SECRET|TOKEN|PASS|CREDENTIAL|DSN|DATABASE_URL", re.IGNORECASE
)
#: An address with a password. The password may contain characters that it should not, such as
#: ``/`` and ``@``: then a parser finds other parts, and its error may quote a part of the password.
_ADDRESS_WITH_PASSWORD = re.compile(r"(\w[\w+.-]*://[^:/?#@\s]*:)(\S+)(@\S*)")
#: What stands in front of the password in an address.
_BEFORE_PASSWORD = r"://[^:/?#@\s]*:"  # noqa: S105 - a regular expression
#: Characters at which parsers divide an address, and a list of secrets.
_DIVIDERS = re.compile(r"[/?#@:\[\],\s]+")


@dataclass
class Secrets:
    """Texts that must never be shown. ``hide`` replaces them in messages. Short texts may also be
    parts of other words, so they are hidden only where they are certainly the secret."""

    _known: set[str] = field(default_factory=set, repr=False)
    #: Pairs: a regular expression of what stands in front of a short secret, and the secret.
    _short: set[tuple[str, str]] = field(default_factory=set, repr=False)

    def add(self, values: Iterable[str | None]) -> None:
        self._known.update(value for value in values if value and len(value) >= MIN_SECRET_LENGTH)

    def add_settings(self, values: Mapping[str, str]) -> None:
        """Adds the values of the secret ones of these settings, and the parts of the values that an
        error may quote."""
        for name, value in values.items():
            if not is_secret(name, value):
                continue
            forms = set(_forms_of(value))
            self.add(forms)
            before = _BEFORE_PASSWORD if "://" in value else _before_value(name)
            for form in forms:
                if 0 < len(form) < MIN_SECRET_LENGTH:
                    self._short.add((before, form))

    def hide(self, text: str) -> str:
        # The longest first, since a secret may contain a shorter one.
        for secret in sorted(self._known, key=len, reverse=True):
            text = text.replace(secret, "(hidden)")
        for before, secret in sorted(self._short):
            text = re.sub(rf"({before}){re.escape(secret)}(?!\w)", r"\1(hidden)", text)
        return text


def is_secret(name: str, value: str) -> bool:
    """Whether the setting is probably secret, according to its name or because its value is an
    address with a password."""
    return (
        name in SECRET_KEYS or bool(_SECRET_NAME.search(name)) or ("://" in value and "@" in value)
    )


def _before_value(name: str) -> str:
    """A regular expression of what stands in front of the setting's value, such as ``NAME='``."""
    return rf"""\b{re.escape(name)}['"]?\s*[=:]\s*['"]?"""


def _forms_of(value: str) -> Iterator[str]:
    """Yields the texts in which an error may quote the value of a secret setting: the whole value
    and each line. If it is an address with a password, also the password and the parts of the
    password; if it is no address, also each item of a list with commas."""
    yield value
    yield from (line.strip() for line in value.splitlines())
    if match := _ADDRESS_WITH_PASSWORD.search(value):
        before, password, after = match.groups()
        forms = {password, unquote(password), *_DIVIDERS.split(password)}
        # Leaves out forms that the rest of the address contains: a password that is also the user's
        # name would be hidden in all messages about the user.
        yield from (form for form in forms if form not in before + after)
    elif "://" not in value:
        yield from (item.strip() for item in value.split(","))
