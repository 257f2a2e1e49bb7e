"""The secrets of one demo, made once and kept in a file that only its owner can read."""

import json
import secrets
import string
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from usher.contract.envfile import write_private

FILE_NAME = "credentials.json"
#: Letters and digits only: a secret that begins with ``-`` would be read as an option, and a double
#: click selects a whole word only if it has no other characters.
_CHARACTERS = string.ascii_letters + string.digits


def new_secret(length: int = 43) -> str:
    """A new secret of letters and digits; by default as hard to guess as 256 random bits."""
    return "".join(secrets.choice(_CHARACTERS) for _ in range(length))


def new_password() -> str:
    """A new password, short enough to type."""
    return new_secret(length=20)


@dataclass(frozen=True)
class Credentials:
    """lms_*: the LMS's OAuth client in the application. oauth_*: the application's OAuth client in
    the LMS. superuser_password: of the LMS's superuser and, in the demo, the application's."""

    lms_client_id: str
    lms_client_secret: str = field(repr=False)
    oauth_client_id: str
    oauth_client_secret: str = field(repr=False)
    service_worker_token: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    superuser_password: str = field(repr=False)
    learner_password: str = field(repr=False)

    @classmethod
    def empty(cls) -> "Credentials":
        """Empty values, in place until ``load_or_make`` is called."""
        return cls(**{field.name: "" for field in fields(cls)})

    @classmethod
    def load_or_make(cls, folder: Path) -> "Credentials":
        """The credentials kept in ``folder``, or new ones. A file with other content is
        replaced."""
        path = folder / FILE_NAME
        try:
            return cls(**json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            names = [field.name for field in fields(cls)]
            passwords = {name: new_password() for name in names if name.endswith("_password")}
            other_values = {name: new_secret() for name in names if name not in passwords}
            credentials = cls(**passwords, **other_values)
            credentials._write(path)
            return credentials

    def _write(self, path: Path) -> None:
        write_private(path, json.dumps(asdict(self), indent=1).encode())
