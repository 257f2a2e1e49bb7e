"""The secrets of one demo, made once and kept in a file that only its owner can read."""

import json
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from usher.contract.envfile import write_private

FILE_NAME = "credentials.json"


@dataclass(frozen=True)
class Credentials:
    """lms_*: the LMS's OAuth client in the application. oauth_*: the application's OAuth client in
    the LMS."""

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
        """Placeholders, until ``load_or_make``."""
        return cls(**{field.name: "" for field in fields(cls)})

    @classmethod
    def load_or_make(cls, folder: Path) -> "Credentials":
        """The credentials kept in ``folder``, or new ones. An unreadable file is replaced."""
        path = folder / FILE_NAME
        try:
            return cls(**json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            made = cls(**{field.name: secrets.token_urlsafe(32) for field in fields(cls)})
            made._write(path)
            return made

    def _write(self, path: Path) -> None:
        write_private(path, json.dumps(asdict(self), indent=1).encode())
