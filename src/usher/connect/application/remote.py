"""Connects an application on another machine: writes files with commands for its operator."""

import shlex
from pathlib import Path
from typing import Any

import httpx

from usher.connect.application.manage import as_line
from usher.connect.application.target import SCRIPT, Addresses, TargetApplication
from usher.connect.errors import NeedsPerson, Refused
from usher.contract import agents
from usher.contract.answers import json_object
from usher.contract.envfile import EnvFile, write_private
from usher.contract.oauth import SCOPE_USER_READ
from usher.contract.paths import ApplicationPath
from usher.contract.provisioning import Application, Description

#: Seconds for each request.
TIMEOUT = 15.0
#: A code that does not exist. The error differs for a valid and an invalid client (RFC 6749, 5.2).
NO_CODE = {"grant_type": "authorization_code", "code": "usher-connect-probe"}


class RemoteApplication(TargetApplication):
    """A remote application. Connect examines it over HTTP; its operator changes it with the files
    that connect writes."""

    def examine(self, application: Application | None, addresses: Addresses) -> None:
        """Checks over HTTP whether the application is built on Usher, and saves this and assumed
        values in ``facts``. Raises Refused if the application does not answer."""
        try:
            with httpx.Client(headers=agents.CONNECT, timeout=TIMEOUT) as client:
                discovery = client.get(self.url + ApplicationPath.DISCOVERY)
        except httpx.HTTPError as error:
            raise Refused(f"{self.url} can't be reached: {error}") from error
        self.facts = {
            # The OAuth toolkit serves discovery only if the settings enable that, as Usher's
            # settings do.
            "usher": discovery.is_success,
            "django": "not known",
            "toolkit": "not known",
            # Can't be read over HTTP, so it is assumed.
            "scopes": [SCOPE_USER_READ],
            # Connect can't run its commands.
            "commands": [],
            "settings": {},
        }

    def record_agrees(self, application: Application, addresses: Addresses) -> bool:
        return self._token_error(application) == "invalid_grant"

    def write_record(self, application: Application, addresses: Addresses) -> str:
        """Writes a script that creates the LMS's OAuth2 record. Always raises NeedsPerson."""
        params = self._params("write", application, addresses)
        raise self._write_script(params, "then run this command again")

    @property
    def hand_over_env(self) -> Path:
        """The file with the settings for the application's operator."""
        return self.saved_state.folder / "application.env"

    def env_is_written(self, description: Description, addresses: Addresses) -> bool:
        values = self.env_values(description, addresses)
        return EnvFile.read(self.hand_over_env).values() == values

    def write_env_to_hand_over(self, description: Description, addresses: Addresses) -> str:
        """Writes a file, mode 0600, with the settings that the application's operator must add."""
        values = self.env_values(description, addresses)
        write_private(self.hand_over_env, EnvFile().with_values(values).text.encode())
        return f"add the settings in {self.hand_over_env} to the application's own"

    def has_record(self, application: Application) -> bool:
        """Whether the application may know this client: False only if the application says that it
        does not, or that the secret is wrong."""
        return self._token_error(application) != "invalid_client"

    def _token_error(self, application: Application) -> str:
        """The OAuth2 error code with which the application refuses a code that does not exist:
        ``invalid_grant`` if it knows the client and the secret, else ``invalid_client``. '' if the
        answer has no such code, or if there is none."""
        credentials = {
            "client_id": application.client_id,
            "client_secret": application.client_secret,
        }
        try:
            answer = httpx.post(
                self.url + ApplicationPath.TOKEN,
                data={**credentials, **NO_CODE, "redirect_uri": "http://unused.example/"},
                headers=agents.CONNECT,
                timeout=TIMEOUT,
            )
        except httpx.HTTPError:
            return ""
        return str(json_object(answer.content).get("error", ""))

    def remove_record(self, client_id: str) -> str:
        """Writes a script that deletes the LMS's OAuth2 record. Always raises NeedsPerson."""
        # before: None, because the earlier record could not be read and saved.
        params = self._params("remove") | {"client_id": client_id, "before": None}
        raise self._write_script(params, "and remove the OPENEDX_* settings")

    def _write_script(self, params: dict[str, Any], next_step: str) -> NeedsPerson:
        """Writes a script for the application's operator. Returns the error that says how to run
        the script, and then ``next_step``."""
        script = self.saved_state.folder / f"{params['action']}_record.py"
        write_private(script, as_line(SCRIPT, params).encode())
        return NeedsPerson(
            f"record:{self.name}",
            f"{self.checkout.title} can't be changed from here. On its machine run\n"
            f"  ./manage.py shell < {shlex.quote(str(script))}\n"
            f"(the file holds a secret), {next_step}",
        )
