"""The application that connect or disconnect changes: its files, processes and earlier state."""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from usher.connect.application import boot
from usher.connect.application.checkout import ApplicationOptions, Checkout
from usher.connect.application.manage import Manage
from usher.connect.application.settings import (
    GENERATED,
    KEYS,
    SETTINGS,
    Identity,
    identity_of,
    settings_for,
)
from usher.connect.errors import Refused, ToolFailed
from usher.connect.openedx.configuration import BackendChoice
from usher.connect.saved_state import SavedState
from usher.contract import envfile
from usher.contract.environment import SECRET_KEYS, SERVICE_CLIENTS, Env
from usher.contract.oauth import (
    BACKENDS,
    EDX_OAUTH_APP,
    OL_OAUTH2,
    SCOPE_USER_READ,
    lms_redirect_uri,
)
from usher.contract.paths import ApplicationPath, LmsPath
from usher.contract.provisioning import Application, Description, ServiceClient
from usher.contract.secret_values import Secrets

#: The script that runs inside the application, in ``connect/application/scripts``.
SCRIPT = "record.py"
#: MITx Online's setting for the port of its API gateway.
GATEWAY_PORT = "APISIX_PORT"
#: The facts that the script reports for every application, and their types.
_FACTS: dict[str, type] = {
    "django": str,
    "toolkit": str,
    "usher": bool,
    "site": str,
    "scopes": list,
    "settings": dict,
}


@dataclass(frozen=True)
class Addresses:
    """lms_url: the LMS's address for browsers. lms_server_url, studio_url: the addresses of the LMS
    and of Studio for the application's server. lms_on_this_machine: whether the LMS runs on this
    machine."""

    lms_url: str
    lms_server_url: str
    lms_on_this_machine: bool
    studio_url: str = ""


class Superuser(NamedTuple):
    """The application's superuser. username: in the LMS; '' if it isn't reserved yet."""

    username: str
    email: str


class TargetApplication:
    """An application that a command connects or disconnects. Reads and changes its records and
    files."""

    def __init__(self, checkout: Checkout, options: ApplicationOptions, secrets: Secrets) -> None:
        self.checkout = checkout
        self.options = options
        self.manage = Manage(checkout, secrets)
        self.saved_state = SavedState(str(checkout.env_file or checkout.url))
        #: The last report of ``scripts/record.py`` about the application; {} before ``examine``.
        self.facts: dict[str, Any] = {}
        #: Setting that the application needs to start and has no value for → the example value that
        #: connect will write into the ``.env``.
        self.new_example_values: dict[str, str] = {}
        #: The name of the chosen backend; '' before ``make_entry``.
        self.backend = ""
        #: The parameters to which ``facts`` is the answer; {} if ``facts`` is out of date.
        self._last_params: dict[str, Any] = {}
        self._secrets = secrets

    @property
    def name(self) -> str:
        return self.checkout.name

    @property
    def url(self) -> str:
        """The address for browsers: from the operator's options, else the API gateway's, else the
        application's own. Raises Refused if all are unknown."""
        address = self.checkout.url or self.gateway_url or self.own_url
        if not address:
            raise Refused(f"the address of {self.checkout.title} is unknown; give it with --url")
        return str(address).rstrip("/")

    @property
    def own_url(self) -> str:
        """The application's own address, not its API gateway's: from its settings, else its
        edition's default, else the operator's option; '' if unknown."""
        edition = self.checkout.edition
        default = edition.root_url if edition else self.checkout.url
        return str(self.facts.get("site", "") or default).rstrip("/")

    @property
    def gateway_url(self) -> str:
        """The address of the API gateway where people sign in: from the operator's options, unless
        they name the application itself; else from its settings and its edition's default; '' if
        the application has none."""
        edition = self.checkout.edition
        if not self.facts.get("gateway") or not edition or not edition.gateway_url:
            return ""
        chosen_url = self.checkout.url.rstrip("/")
        own_port = urlsplit(self.own_url).port
        # With the application's port, another host name is one of the application itself.
        names_application = own_port is not None and urlsplit(chosen_url).port == own_port
        if chosen_url and chosen_url != self.own_url and not names_application:
            return chosen_url
        path = self.checkout.settings_file
        port = envfile.EnvFile.read(path).get(GATEWAY_PORT) if path else None
        host = urlsplit(self.own_url).hostname or edition.host
        scheme = urlsplit(self.own_url).scheme or "http"
        return f"{scheme}://{host}:{port or urlsplit(edition.gateway_url).port}"

    def examine(self, application: Application | None, addresses: Addresses) -> None:
        """Examines the application and saves the result in ``facts``.

        application: its entry in the description of the LMS's records, if there is one already.
        Raises Refused if the application can't be asked or can't be connected.
        """
        params = self._params("inspect", application, addresses)
        self.facts, self._last_params = self._inspect(params), params
        if SCOPE_USER_READ not in self.facts["scopes"]:
            raise Refused(
                f"{self.checkout.title} offers no scope {SCOPE_USER_READ!r}; add it to "
                "OAUTH2_PROVIDER['SCOPES'], then run this command again"
            )

    def _inspect(self, params: dict[str, Any]) -> dict[str, Any]:
        """Returns the script's report about the application. Raises Refused."""
        try:
            return self._require_facts(self._run_script(params))
        except ToolFailed as error:
            migrate = self.manage.runnable("migrate")
            title = self.checkout.title
            text = str(error).removeprefix(f"{title}: ").rstrip()
            advice = boot.advice(
                text,
                compose=self.checkout.compose,
                migrate=migrate,
                needs_postgresql=self.checkout.edition is not None,
            )
            detail = f"{advice}\nIts error: {text}" if advice else text
            raise Refused(f"{title} can't be reached: {detail}") from error

    def _require_facts(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Returns ``facts`` if all of ``_FACTS`` are in it. Raises ToolFailed."""
        wrong_keys = [key for key, kind in _FACTS.items() if not isinstance(facts.get(key), kind)]
        if wrong_keys:
            raise ToolFailed(f"its report lacks {', '.join(wrong_keys)}")
        return facts

    def _run_script(self, params: dict[str, Any]) -> dict[str, Any]:
        """Runs the script in the application, with placeholders for settings that it lacks.

        Settings are missing before connect has written them and after disconnect has removed them.
        Raises ToolFailed.
        """
        # An error may name only the first missing setting, so the script is tried again until the
        # error names none that is new.
        while True:
            try:
                return self.manage.run_script(SCRIPT, params)
            except ToolFailed as error:
                missing = boot.missing_settings(str(error), self.manage.placeholders)
                if not missing:
                    raise
                example_values = {
                    key: self._own_address_for(key) or value
                    for key, value in missing.with_examples.items()
                }
                self.manage.placeholders |= missing.written_by_connect | example_values
                self.new_example_values |= example_values
                self._secrets.add(
                    value for key, value in missing.with_examples.items() if key in SECRET_KEYS
                )

    def _own_address_for(self, key: str) -> str:
        """Returns the application's address if ``key`` is the setting for it (``*_BASE_URL``), else
        ''."""
        if not key.endswith("_BASE_URL"):
            return ""
        edition = self.checkout.edition
        return self.checkout.url or (edition.root_url if edition else "")

    def check_backend(self, backend: str) -> None:
        """Raises Refused if the application requires PKCE, which the backends don't send."""
        if self.facts.get("pkce_required"):
            raise Refused(
                f"{self.checkout.title} requires PKCE of every client and {backend} sends none; "
                "set OAUTH2_PROVIDER['PKCE_REQUIRED'] to a function that returns False for "
                "the LMS's client, then run this command again"
            )

    def make_entry(
        self, backend: BackendChoice, *, lms_in_containers: bool = True
    ) -> dict[str, Any]:
        """Returns this application's entry for USHER_APPLICATIONS, and remembers its backend.

        lms_in_containers: whether loopback addresses must be replaced for the LMS's containers.
        """
        self.backend = backend.name
        entry: dict[str, Any] = {
            "name": self.name,
            "root_url": self.url,
            "backend": backend.name,
            "backend_base": backend.known_backend,
            "usher": bool(self.facts["usher"]),
        }
        edition = self.checkout.edition
        if edition and edition.gateway_url and self.url == edition.root_url:
            entry["gateway_url"] = edition.gateway_url
        if self.url != self.own_url and self.facts.get("gateway") and self.own_url:
            # Browsers use the gateway, the LMS's server the application's own address. In an
            # entry, ``gateway_url`` is the other address for browsers, here the own address.
            entry["gateway_url"] = self.own_url
            entry["server_url"] = self.own_url
        if self.url == self.gateway_url:
            # The application's /logout/ redirects to this path of its own address, not of the
            # gateway.
            entry["logout_url"] = self.url + ApplicationPath.GATEWAY_LOGOUT
        if self.service_purposes:
            entry["service_clients"] = self.service_purposes
        if not lms_in_containers:
            entry.setdefault("server_url", self.url)
        if self.options.server_url:
            entry["server_url"] = self.options.server_url.rstrip("/")
        return entry

    @property
    def service_purposes(self) -> list[str]:
        """Returns the purposes for which the application needs service clients: it has the settings
        of a client for each of these purposes."""
        readable = set(self.facts.get("readable") or ())
        return [purpose for purpose, keys in SERVICE_CLIENTS.items() if readable >= set(keys)]

    @property
    def default_backend(self) -> str:
        """Returns the backend in OPENEDX_OAUTH_PROVIDER if Usher knows it, else ol-oauth2."""
        backend = str((self.facts.get("settings") or {}).get(Env.OPENEDX_OAUTH_PROVIDER) or "")
        return backend if backend in BACKENDS else OL_OAUTH2.name

    # -- its superuser

    @property
    def superuser(self) -> Superuser:
        """The application's superuser.

        Raises Refused if there is no superuser. Also raises Refused if the superuser has no
        username in the LMS and the application isn't built on Usher: connect can't reserve one
        there.
        """
        if not self.facts.get("superuser"):
            raise Refused(
                f"{self.checkout.title} has no superuser; create one there, or leave out "
                "--superuser"
            )
        username, email = self.facts["superuser"]
        if not username and not self.facts["usher"]:
            raise Refused(
                f"{self.checkout.title} has given its superuser {email} no username in the LMS "
                "yet; run its repair_missing_courseware_records, then run this command again"
            )
        return Superuser(str(username), str(email))

    def reserve_superuser(self) -> str:
        """Reserves the superuser's username in the LMS. Returns what was done, for people."""
        params = self._params("reserve_superuser")
        self.facts["superuser"] = self._run_script(params)["superuser"]
        return f"reserved {self.superuser.username}"

    # -- the record

    def record_agrees(self, application: Application, addresses: Addresses) -> bool:
        """Whether the LMS's OAuth2 record has the id, secret and addresses of ``application``.
        Raises ToolFailed."""
        params = self._params("inspect", application, addresses)
        if params == self._last_params:  # the last report answers the same question
            return bool(self.facts["agrees"])
        if self._last_params and self.facts["record"] is None:
            return False  # there is no record; no need to start the application again
        self.facts, self._last_params = self._run_script(params), params
        return bool(self.facts["agrees"])

    def write_record(self, application: Application, addresses: Addresses) -> str:
        """Creates or updates the OAuth2 record, and saves an existing record that Usher did not
        create. Returns what was done, for people. Raises ToolFailed."""
        self.saved_state.save_record(self._foreign_record(application))
        self._last_params = {}  # the facts are out of date: ``record_agrees`` reads them again
        answer = self._run_script(self._params("write", application, addresses))
        result = "created" if answer["created"] else f"changed: {', '.join(answer['changed'])}"
        return result + (", PKCE made optional for it" if answer["relaxed"] else "")

    def examine_again(
        self, application: Application, addresses: Addresses, redirect_uri: str
    ) -> dict[str, Any]:
        """Examines the application again and returns the facts. They also say whether the
        application accepts ``redirect_uri``, and whether its server reaches the LMS."""
        params = self._params("check", application, addresses)
        params |= {
            "redirect_uri": redirect_uri,
            "lms_heartbeat": addresses.lms_server_url + LmsPath.HEARTBEAT,
        }
        self.facts = self._run_script(params)
        return self.facts

    def remove_record(self, client_id: str) -> str:
        """Deletes the OAuth2 record, or restores the saved one. Returns what was done, for people.
        Raises ToolFailed."""
        params = self._params("remove")
        params |= {"client_id": client_id, "before": self.saved_state.record()}
        self.facts.pop("record", None)  # so that ``has_record`` asks the application again
        answer = self._run_script(params)
        if "restored" in answer:
            return "restored" if answer["restored"] else "removed already"
        return "removed" if answer["removed"] else "removed already"

    def has_record(self, application: Application) -> bool:
        """Whether the application has an OAuth2 record of this client. Raises ToolFailed."""
        client_id = application.client_id
        record = self.facts.get("record")
        if not record or record["client_id"] != client_id:
            params = self._params("inspect") | {"client_id": client_id}
            record = self._run_script(params)["record"]
        return record is not None and record["client_id"] == client_id

    def _foreign_record(self, application: Application) -> dict[str, Any] | None:
        """Returns an existing OAuth2 record that Usher did not create; None if there is none."""
        record = self.facts.get("record")
        return None if not record or record["client_id"] == application.client_id else dict(record)

    def _params(
        self,
        action: str,
        application: Application | None = None,
        addresses: Addresses | None = None,
    ) -> dict[str, Any]:
        """Returns the parameters of the script. application: its entry in the description of the
        LMS's records; None if the action doesn't need the LMS's client."""
        params: dict[str, Any] = {
            "action": action,
            "name": EDX_OAUTH_APP,
            "settings": list(SETTINGS),
            # The script reports which of these settings the application has.
            "readable": [key for keys in SERVICE_CLIENTS.values() for key in keys],
            "client_id": application.client_id if application else "",
            "redirect_uris": [],
        }
        if application and addresses:
            self._secrets.add([application.client_secret])
            roots = dict.fromkeys([addresses.lms_url, addresses.lms_server_url])
            params["client_secret"] = application.client_secret
            params["redirect_uris"] = [
                lms_redirect_uri(root, application.backend) for root in roots
            ]
        return params

    # -- the .env

    def env_values(self, description: Description, addresses: Addresses) -> dict[str, str]:
        """Returns the settings that the ``.env`` must have. Raises Refused."""
        application = find_application(description, self.name)
        worker = description.service_worker_of(self.name)
        if worker is None:
            raise Refused(
                f"the plugin's description names no service worker for {self.name}; upgrade "
                "openedx-usher"
            )
        values = self._settings_for(identity_of(application, worker), addresses)
        self._secrets.add(values[key] for key in values if key in SECRET_KEYS)
        return values

    def planned_env(self, addresses: Addresses) -> dict[str, str]:
        """Returns the settings as ``env_values`` does, but needs no description: ids and secrets
        are ``GENERATED``."""
        identity = Identity(
            backend=self.backend,
            client_id=GENERATED,
            client_secret=GENERATED,
            worker_username=GENERATED,
            worker_token=GENERATED,
            webhook_secret=GENERATED if self.facts["usher"] else "",
            service_clients=[
                ServiceClient(purpose, client_id=GENERATED, client_secret=GENERATED)
                for purpose in self.service_purposes
            ],
        )
        return self._settings_for(identity, addresses)

    def _settings_for(self, identity: Identity, addresses: Addresses) -> dict[str, str]:
        edition = self.checkout.edition
        return settings_for(
            identity,
            lms_url=addresses.lms_url,
            lms_server_url=addresses.lms_server_url,
            # Containers reach an LMS of this machine at docker's gateway.
            lms_at_gateway=addresses.lms_on_this_machine and not self.checkout.runs_here,
            studio_url=addresses.studio_url,
            registration_token_key=edition.registration_token_key if edition else "",
        )

    def differing_keys(self, values: dict[str, str]) -> list[str]:
        """Returns the keys whose values differ in the ``.env``, or in a dry run without a ``.env``
        in the example that it would be created from."""
        path = self.checkout.settings_file
        present = envfile.EnvFile.read(path).values() if path else {}
        return [key for key, value in values.items() if present.get(key) != value]

    def env_agrees(self, values: dict[str, str]) -> bool:
        """Whether the ``.env`` has these values and mode 0600."""
        path = self.checkout.env_file
        if path is None or not path.exists():
            return False
        is_private = path.stat().st_mode & 0o777 == envfile.PRIVATE_MODE
        return is_private and not self.differing_keys(values)

    def runs_with(self, values: dict[str, str]) -> bool:
        """Whether a container is running with these values, and with all other values that docker
        compose would set now."""
        present = self._container_env()
        expected = self._composed_env() | values
        return present is not None and all(
            present.get(key) == value for key, value in expected.items()
        )

    def runs_with_removed_values(self, values: dict[str, str]) -> bool:
        """Whether the running container still has one of these values, although disconnect has
        removed the value from the ``.env``."""
        container_values = self._container_env() or {}
        path = self.checkout.env_file
        env_values = envfile.EnvFile.read(path).values() if path else {}
        return any(
            container_values.get(key) == value and env_values.get(key) != value
            for key, value in values.items()
        )

    def recreate(self) -> str:
        self.manage.run_compose("up", "-d")
        return "up"

    def _composed_env(self) -> dict[str, str]:
        """Returns the environment that a container would have if it were created now; {} if docker
        compose does not report it."""
        try:
            config = json.loads(self.manage.run_compose("config", "--format", "json"))
            environment = config["services"][self.manage.service].get("environment") or {}
        except (ToolFailed, ValueError, KeyError, TypeError, AttributeError):
            return {}
        # A key without a value gets its value from docker's own environment; $ is written as $$.
        return {
            key: str(value).replace("$$", "$")
            for key, value in environment.items()
            if value is not None
        }

    def _container_env(self) -> dict[str, str] | None:
        """Returns the running container's environment; None if no container runs. Raises
        ToolFailed."""
        service = self.manage.service
        if not self.manage.run_compose("ps", "--quiet", service).strip():
            return None
        output = self.manage.run_compose("exec", "-T", service, "env")
        return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)

    @property
    def keys_with_example_values(self) -> list[str]:
        """Returns the settings that still have the example values that connect wrote."""
        path = self.checkout.env_file
        present = envfile.EnvFile.read(path).values() if path else {}
        saved = self.saved_state.examples()
        return [key for key, value in saved.items() if present.get(key) == value]

    def write_env(self, values: dict[str, str]) -> str:
        """Writes these values into the ``.env``, and saves the earlier file. Returns what was done,
        for people. Raises Refused."""
        path = self.checkout.env_file
        if path is None:
            raise Refused(f"{self.checkout.title} has no .env here; name it with --env-file")
        self.saved_state.save_env(path)
        self.saved_state.save_examples(self.new_example_values)
        keys = self.differing_keys(values)
        envfile.update(path, values)
        return f"{_count_settings(len(keys))} written" if keys else "mode set to 0600"

    def restore_env(self, written_values: dict[str, str]) -> str:
        """Restores the saved values, and deletes the ``.env`` if there was none before Usher and
        nothing is left in it. Without a saved copy, removes values that Usher wrote. Returns what
        was done, for people."""
        path = self.checkout.env_file
        if path is None or not path.exists():
            return "there is no .env"
        saved, present = self.saved_state.env(), envfile.EnvFile.read(path)
        if saved is None:
            keys = [key for key, value in written_values.items() if present.get(key) == value]
            envfile.write(path, present.without(keys))
            return f"no saved copy; removed {', '.join(keys) or 'nothing'}"
        restored = present.restored(self._written_keys, saved)
        if self.saved_state.had_no_env and not restored.text.strip():
            path.resolve().unlink()  # a symbolic link to a missing file was there before
            return "removed; there was none before Usher"
        envfile.write(path, restored)
        saved_values = saved.values()
        changed_keys = [
            key for key, value in restored.values().items() if saved_values.get(key) != value
        ]
        if not changed_keys:
            return "restored"
        return f"restored, except for {', '.join(changed_keys)}: changed after connect"

    def is_env_restored(self, written_values: dict[str, str]) -> bool:
        """Whether ``restore_env`` has nothing to do."""
        path, saved = self.checkout.env_file, self.saved_state.env()
        if path is None or not path.exists():
            return True
        present = envfile.EnvFile.read(path).values()
        if saved is None:
            return not any(present.get(key) == value for key, value in written_values.items())
        must_be_deleted = self.saved_state.had_no_env and not path.read_text().strip()
        if must_be_deleted:
            return False
        return all(present.get(key) == saved.get(key) for key in self._written_keys)

    @property
    def _written_keys(self) -> set[str]:
        """The settings to restore: the settings that connect writes, and the settings that still
        have an example value from connect."""
        return {*KEYS, *self.keys_with_example_values}


def _count_settings(count: int) -> str:
    return "1 setting" if count == 1 else f"{count} settings"


def find_application(description: Description, name: str) -> Application:
    """Returns the application's entry in the description of the LMS's records. Raises Refused if it
    has none."""
    for application in description.applications:
        if application.name == name:
            return application
    raise Refused(f"the plugin's description does not know {name}; render it: tutor config save")
