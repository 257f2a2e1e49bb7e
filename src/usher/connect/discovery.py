"""Finds the application and the LMS that the operator named, and refuses what can't be connected.

Nothing is changed here.
"""

import os
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from usher.connect.application.checkout import ApplicationOptions, recognise
from usher.connect.application.example import with_example
from usher.connect.application.remote import RemoteApplication
from usher.connect.application.target import Addresses, TargetApplication
from usher.connect.errors import Refused, ToolFailed
from usher.connect.openedx import configuration
from usher.connect.openedx.configuration import BackendChoice
from usher.connect.openedx.embedded import (
    CONTAINER_HOST,
    PORT,
    EmbeddedLms,
    check_installed,
    check_port,
    is_lms,
    url_of,
)
from usher.connect.openedx.instance import (
    Instance,
    check_cluster,
    check_version,
    find_mode,
    find_root,
    find_tutor,
    inspect_root,
    lms_runs,
    running_modes,
)
from usher.connect.openedx.platform import Platform
from usher.connect.process import Runner
from usher.connect.saved_state import OPTIONS, SavedDescription, saved_applications, state_home
from usher.contract import connections, tutor_values
from usher.contract.connections import Connection, ConnectionsError
from usher.contract.cookies import session_cookies_collide
from usher.contract.provisioning import Application
from usher.contract.secret_values import Secrets

#: The warning about an embedded LMS that containers must reach.
_OPEN_TO_ALL = (
    "the embedded LMS listens on port {port} of every interface, because the application's "
    "containers must reach it. Close this port to other machines with your firewall"
)


@dataclass(frozen=True)
class CommandOptions:
    """The options of the command line; '' for values to detect.

    lms: the program that runs the LMS, by its name in ``usher.contract.connections``; lms_home:
    folder of an embedded one. tutor: Tutor's program; mode: how Tutor runs the LMS. lms_url,
    lms_server_url: the LMS's address for browsers, and for the application's server if that
    differs.
    """

    lms: str = ""
    lms_home: str = ""
    tutor: str = ""
    tutor_root: str = ""
    mode: str = ""
    lms_url: str = ""
    lms_server_url: str = ""
    applications: list[ApplicationOptions] = field(default_factory=list)


@dataclass
class LmsContext:
    """The LMS, and facts about it that the command has determined.

    secrets: hidden in messages; facts, warnings: shown above the plan; running: whether the LMS
    runs now.
    """

    lms: Platform | EmbeddedLms
    addresses: Addresses
    runner: Runner
    secrets: Secrets
    facts: dict[str, str]
    warnings: list[str]
    running: bool

    @property
    def in_containers(self) -> bool:
        """Whether the LMS runs in containers."""
        return not isinstance(self.lms, EmbeddedLms)


def find_lms(command_options: CommandOptions) -> LmsContext:
    """Returns the LMS that the options name. Raises Refused."""
    if command_options.lms == connections.EMBEDDED:
        return _find_embedded(command_options)
    return _find_tutor_lms(command_options)


def _find_embedded(command_options: CommandOptions) -> LmsContext:
    """Returns the embedded LMS of the given folder, which may not exist yet. Raises Refused."""
    if command_options.tutor or command_options.tutor_root or command_options.mode:
        raise Refused("--tutor, --tutor-root and --mode can't be used with an embedded LMS")
    check_installed()
    secrets = Secrets()
    runner = Runner(secrets)
    if command_options.lms_home:
        home = Path(command_options.lms_home).expanduser().absolute()
    else:
        home = embedded_home()
    checkouts = [recognise(options) for options in command_options.applications]
    present_connections = [
        connection for connection in _stored_connections() if connection.lms_home == str(home)
    ]
    new_in_containers = any(checkout.compose for checkout in checkouts)
    present_in_containers = any(
        connection.manage.startswith("docker ") for connection in present_connections
    )
    for_containers = new_in_containers or present_in_containers
    present_url = url_of(home)
    default_host = CONTAINER_HOST if for_containers else _unused_host(present_connections)
    default_url = present_url or f"http://{default_host}:{PORT}"
    url = _address(command_options.lms_url or default_url, "--lms-url")
    if present_url and url != present_url:
        names = {checkout.name for checkout in checkouts}
        _refuse_if_others_use(home, present_url, present_connections, names)
    lms = EmbeddedLms(home, url, runner, open_to_containers=for_containers)
    secrets.add(lms.generated_secrets().values())
    running = lms.server.is_running
    # The running LMS uses the port of its address, which is not known if lms.env.yml is malformed.
    uses_port_itself = running and present_url in ("", url)
    if not uses_port_itself:
        check_port(url)
    if running:
        state = "runs"
    elif present_url:
        state = "does not run"
    else:
        state = "will be created"
    lms_server_url = _address(command_options.lms_server_url or url, "--lms-server-url")
    return LmsContext(
        lms=lms,
        # The embedded LMS serves Studio's API at its own address.
        addresses=Addresses(
            lms_url=url,
            lms_server_url=lms_server_url,
            lms_on_this_machine=True,
            studio_url=lms_server_url,
        ),
        runner=runner,
        secrets=secrets,
        facts={
            "LMS": f"{url}, embedded",
            "folder": str(home),
            "state": state,
        },
        warnings=[_OPEN_TO_ALL.format(port=lms.server.port)] if for_containers else [],
        running=running,
    )


def embedded_home() -> Path:
    """Returns the folder of the embedded LMS if --lms-home is not given."""
    return state_home() / "lms"


def _unused_host(present_connections: list[Connection]) -> str:
    """Returns the host for a new embedded LMS: 127.0.0.1, or localhost if a connected application
    is served at 127.0.0.1.

    Browsers share cookies between the ports of a host, so LMS and application need different hosts.
    """
    used_hosts = {urlsplit(connection.url).hostname for connection in present_connections}
    return "localhost" if "127.0.0.1" in used_hosts else "127.0.0.1"


def _refuse_if_others_use(
    home: Path, present_url: str, present_connections: list[Connection], names: set[str]
) -> None:
    """Raises Refused if applications other than those called ``names`` are connected to the LMS at
    ``present_url``."""
    other_names = {connection.name for connection in present_connections} - names
    if other_names:
        raise Refused(
            f"the LMS in {home} has the address {present_url}, which is in the settings of "
            f"{', '.join(sorted(other_names))}. To change the address, disconnect "
            "these first; to keep it, leave --lms-url out"
        )


def _find_tutor_lms(command_options: CommandOptions) -> LmsContext:
    """Returns the platform with its Tutor, root and mode. Raises Refused."""
    secrets = Secrets()
    runner = Runner(secrets)
    tutor, python = find_tutor(command_options.tutor)
    try:
        root = find_root(command_options.tutor_root, tutor, runner)
        report = inspect_root(python, root, runner)
    except ToolFailed as error:
        raise Refused(str(error)) from error
    secrets.add(str(value) for key, value in report["usher"].items() if _is_secret(key))
    warning = check_version(report["version"])
    is_cluster = command_options.mode == "k8s"
    modes_running = [] if is_cluster else running_modes(report["values"], runner)
    mode, reason = find_mode(command_options.mode, report["version"], modes_running)
    if mode == "k8s":
        check_cluster(runner, str(report["values"]["K8S_NAMESPACE"]))
    instance = Instance(tutor, python, root, mode, report)
    lms_url = _address(command_options.lms_url or instance.lms_url, "the LMS's address (--lms-url)")
    lms_server_url = _address(command_options.lms_server_url or lms_url, "--lms-server-url")
    return LmsContext(
        lms=Platform(instance, runner),
        addresses=Addresses(
            lms_url=lms_url,
            lms_server_url=lms_server_url,
            lms_on_this_machine=mode != "k8s",
            studio_url=instance.studio_url,
        ),
        runner=runner,
        secrets=secrets,
        facts={
            "Tutor": f"{report['version']}, {tutor}",
            "root": str(root),
            "mode": f"{mode} ({reason})",
            "LMS": lms_url,
        },
        warnings=[warning] if warning else [],
        running=instance.command in modes_running and _is_running(instance, runner),
    )


def _is_running(instance: Instance, runner: Runner) -> bool:
    """Whether the LMS runs. Raises Refused if docker doesn't answer."""
    try:
        return lms_runs(instance, runner)
    except ToolFailed as error:
        raise Refused(f"docker does not answer: {error}") from error


def _address(value: str, name: str) -> str:
    """Returns the address without a slash at the end. Raises Refused, with ``name``, if it isn't
    an http address."""
    try:
        return tutor_values.address(value, name)
    except tutor_values.NotAllowed as error:
        raise Refused(str(error)) from error


def find_targets(
    command_options: CommandOptions, context: LmsContext, *, dry_run: bool = False
) -> list[tuple[TargetApplication, BackendChoice]]:
    """Returns each requested application with its backend. Adds facts and warnings about them to
    ``context``. Raises Refused."""
    application_entries = context.lms.application_entries()
    targets: list[tuple[TargetApplication, BackendChoice]] = []
    for options in command_options.applications:
        target = _target_of(options, context, dry_run=dry_run)
        if target.name in [other.name for other, _ in targets]:
            raise Refused(f"two applications are called {target.name}; tell them apart with --name")
        target.examine(_described_application(context, target.name), context.addresses)
        backend = configuration.choose_backend(
            application_entries,
            target.name,
            option=options.backend,
            default=target.default_backend,
        )
        target.check_backend(backend.known_backend)
        context.warnings += _warnings_of_backend_change(application_entries, target, backend)
        context.warnings += _warnings_of_shared_cookie(target, context.addresses)
        application_entries = configuration.with_entry(
            application_entries, target.make_entry(backend)
        )
        targets.append((target, backend))
        context.facts |= _facts_of(target, backend)
    return targets


def _warnings_of_backend_change(
    application_entries: list[dict[str, Any]], target: TargetApplication, backend: BackendChoice
) -> list[str]:
    """Returns a warning if connecting changes the application's backend in the LMS."""
    earlier_backend = next(
        (entry.get("backend") for entry in application_entries if entry.get("name") == target.name),
        None,
    )
    if earlier_backend in (None, backend.name):
        return []
    return [
        f"{target.checkout.title} has had the backend {earlier_backend} in the LMS until now, and "
        f"the links of its learners name this backend. Provisioning moves all links to "
        f"{backend.name} in one transaction; to move them back, connect with --backend "
        f"{earlier_backend}"
    ]


def _warnings_of_shared_cookie(target: TargetApplication, addresses: Addresses) -> list[str]:
    """Returns a warning if browsers use one session cookie for the application and the LMS."""
    cookie = target.facts.get("session_cookie", "")
    if not session_cookies_collide(target.url, cookie, addresses.lms_url):
        return []
    return [
        f"{target.checkout.title} at {target.url} and the LMS at {addresses.lms_url} share a "
        f"browser's session cookie, {cookie}, so that signing in to one signs out of the other. "
        "Use another host name for one of them, such as localhost in place of 127.0.0.1"
    ]


def find_connected(
    command_options: CommandOptions, context: LmsContext
) -> tuple[list[TargetApplication], list[str]]:
    """Returns the applications to disconnect that can be reached from here, and the names of all
    applications to disconnect.

    These are the requested applications, or all applications of this LMS, also those that only the
    LMS knows. Raises Refused if a requested application can't be reached. If no application was
    requested, an unreachable one is left as it is, with a warning.
    """
    if command_options.applications:
        targets = [_examined_target(options, context) for options in command_options.applications]
        return targets, [target.name for target in targets]
    folder = context.lms.folder
    targets, names = [], []
    for entry in saved_applications():
        if entry.get("root") != str(folder):
            continue
        options = ApplicationOptions(**entry[OPTIONS])
        names.append(options.name)
        try:
            targets.append(_examined_target(options, context))
        except Refused as error:
            warning = (
                f"{options.name} can't be reached and keeps the LMS's OAuth client and its "
                f".env. Disconnect it later: {error}"
            )
            context.warnings.append(warning)
    description = SavedDescription(folder).description()
    names += [application.name for application in description.applications] if description else []
    names += [str(entry["name"]) for entry in context.lms.application_entries()]
    return targets, list(dict.fromkeys(names))


def _examined_target(options: ApplicationOptions, context: LmsContext) -> TargetApplication:
    """Examines an application that is to be disconnected, and returns it. Raises Refused."""
    target = _target_of(options, context)
    target.examine(application=None, addresses=context.addresses)
    return target


def _target_of(
    options: ApplicationOptions, context: LmsContext, *, dry_run: bool = False
) -> TargetApplication:
    """Returns the application, not examined yet. Without a manage.py to run, it is remote. dry_run:
    if the ``.env`` is missing, read the checkout's example instead."""
    checkout = recognise(options)
    if dry_run:
        checkout = with_example(checkout)
    application_class = TargetApplication if checkout.manage else RemoteApplication
    return application_class(checkout, options, context.secrets)


def _described_application(context: LmsContext, name: str) -> Application | None:
    """Returns the application as in the rendered description; None if it isn't there."""
    description = context.lms.description() if context.lms.is_plugin_enabled else None
    applications = description.applications if description else []
    return next((application for application in applications if application.name == name), None)


def remember(target: TargetApplication, context: LmsContext) -> None:
    """Saves the options of this application, so that ``usher disconnect`` needs none."""
    options = {key: value for key, value in vars(target.options).items() if value}
    options["target"] = str(target.checkout.folder or target.checkout.url)
    options["name"] = target.name
    lms = context.lms.connection().get("lms", "")  # '' for Tutor
    target.saved_state.save_application(options, root=str(context.lms.folder), lms=lms)


def connection_of(
    target: TargetApplication, backend: BackendChoice, context: LmsContext
) -> Connection:
    """Returns the connection as it is saved for other commands, which take defaults from it."""
    checkout = target.checkout
    return Connection(
        name=target.name,
        title=checkout.title,
        edition=checkout.edition.name if checkout.edition else "",
        application=str(checkout.folder or target.url),
        url=target.url,
        server_url=target.options.server_url,
        manage=shlex.join(checkout.manage),
        env_file=str(checkout.env_file or ""),
        backend=backend.name,
        lms_url=context.addresses.lms_url,
        lms_server_url=context.addresses.lms_server_url,
        **context.lms.connection(),
        connected=connections.now(),
    )


def with_defaults(command_options: CommandOptions) -> CommandOptions:
    """Adds the LMS to options that name none: the LMS to which the requested applications are
    connected, or the embedded LMS of their interrupted connect, or the only connected LMS.
    """
    names_an_lms = (
        command_options.tutor
        or command_options.tutor_root
        or command_options.mode
        or command_options.lms_home
    )
    if names_an_lms:
        return command_options
    if not command_options.lms and os.environ.get("TUTOR_ROOT"):  # which names an LMS, too
        return command_options

    def with_requested_lms(found: list[Connection]) -> list[Connection]:
        return [each for each in found if command_options.lms in ("", each.lms)]

    stored = with_requested_lms(_stored_connections())
    interrupted = with_requested_lms(_interrupted_connections(command_options))
    requested = stored
    if command_options.applications:
        requested = [
            connection for connection in stored if _is_requested(connection, command_options)
        ]
    candidates = requested or interrupted or stored
    lms_keys = {
        (
            connection.lms,
            connection.lms_home,
            connection.tutor,
            connection.tutor_root,
            connection.mode,
        )
        for connection in candidates
    }
    if len(lms_keys) != 1:
        return command_options
    lms, home, tutor, root, mode = lms_keys.pop()
    return replace(command_options, lms=lms, lms_home=home, tutor=tutor, tutor_root=root, mode=mode)


def with_earlier_lms(command_options: CommandOptions) -> CommandOptions:
    """Adds the embedded LMS of the applications' last connection to options that name no LMS.
    Another folder would be another LMS, without the learners of the first."""
    names_tutor = command_options.tutor or command_options.tutor_root or command_options.mode
    if names_tutor or command_options.lms not in ("", connections.EMBEDDED):
        return command_options
    if command_options.lms_home:
        return replace(command_options, lms=connections.EMBEDDED)
    earlier = [
        connection
        for connection in _stored_connections()
        if _is_requested(connection, command_options)
    ]
    earlier = earlier or _interrupted_connections(command_options)
    homes = {connection.lms_home for connection in earlier}
    if len(homes) == 1 and all(connection.lms == connections.EMBEDDED for connection in earlier):
        return replace(command_options, lms=connections.EMBEDDED, lms_home=homes.pop())
    return command_options


def _interrupted_connections(command_options: CommandOptions) -> list[Connection]:
    """Returns connections to an embedded LMS, with the LMS's fields only, of the requested
    applications, or of all if none is requested. They are read from the options that connect saves
    before its first change; an interrupted connect has saved nothing else."""
    saved_entries = (
        [entry for options in command_options.applications for entry in _saved_entries(options)]
        if command_options.applications
        else saved_applications()
    )
    return [
        Connection(
            name="",
            application="",
            lms_url="",
            lms=str(entry["lms"]),
            lms_home=str(entry["root"]),
        )
        for entry in saved_entries
        if entry.get("lms")
    ]


def connected_applications() -> list[ApplicationOptions]:
    """Returns the connected applications, for ``usher connect`` without --application.

    Raises Refused if they are connected to more than one LMS.
    """
    all_connections = _stored_connections()
    lms_folders = sorted({_lms_folder(connection) for connection in all_connections})
    if len(lms_folders) > 1:
        raise Refused(
            f"applications are connected to several LMSs ({', '.join(lms_folders)}); name those to "
            "connect: --application DIRECTORY"
        )
    return [
        ApplicationOptions(target=connection.application, name=connection.name)
        for connection in all_connections
    ]


def with_earlier_options(options: ApplicationOptions) -> ApplicationOptions:
    """Returns ``options``, completed with the options given when this application was connected,
    so that an operator who connects it again needs to give only its path or address.
    """
    saved_entries = _saved_entries(options)
    if not saved_entries:
        return options
    new_options = {key: value for key, value in vars(options).items() if value}
    saved_options = {
        # Options of a newer version are ignored.
        key: str(value)
        for key, value in saved_entries[0][OPTIONS].items()
        if key in vars(options)
    }
    return ApplicationOptions(
        **{**saved_options, **new_options, "target": _normalize(options.target)}
    )


def are_known(applications: list[ApplicationOptions]) -> bool:
    """Whether this machine has a connection, or an interrupted one, of any of these applications;
    without applications, whether it has one at all. Raises Refused."""
    if not applications:
        return bool(_stored_connections() or saved_applications())
    locations = {_normalize(options.target) for options in applications}
    for connection in _stored_connections():
        if locations & {connection.application, connection.url}:
            return True
    return any(_saved_entries(options) for options in applications)


def advice_about_kept_lms(context: LmsContext | None) -> str:
    """Returns what an earlier disconnection kept of the LMS, and how to delete it, to be appended
    to a message; "" if it kept nothing. context: the LMS that the command has found, or None."""
    if context is None:
        return _advice_about_embedded_lms(embedded_home())
    if not context.in_containers:
        return _advice_about_embedded_lms(context.lms.folder)
    advice_about_settings = _advice_about_kept_settings(context.lms.config_file)
    return advice_about_settings + _advice_about_embedded_lms(embedded_home())


def _advice_about_kept_settings(config_file: Path) -> str:
    """Returns advice if ``config.yml`` has settings of Usher; "" if it has none."""
    if not any(key.startswith(configuration.PREFIX) for key in configuration.read(config_file)):
        return ""
    return (
        f"; {config_file} still has Usher's settings; `usher disconnect --purge`, after "
        "connecting again, deletes them and the LMS's provider record"
    )


def _advice_about_embedded_lms(home: Path) -> str:
    """Returns advice if there is an embedded LMS in ``home`` to which no application is connected;
    "" otherwise."""
    connected_folders = {_lms_folder(connection) for connection in _stored_connections()}
    connected_folders |= {str(entry.get("root")) for entry in saved_applications()}
    if not is_lms(home) or str(home) in connected_folders:
        return ""
    return (
        f"; the embedded LMS in {home} still exists; {purge_command(home)} deletes it, with "
        "its learners"
    )


def purge_command(home: Path) -> str:
    """Returns the command that deletes the embedded LMS in this folder, as the operator types
    it."""
    options = [] if home == embedded_home() else ["--lms-home", str(home)]
    return shlex.join(["usher", "disconnect", "--lms", "embedded", *options, "--purge"])


def _saved_entries(options: ApplicationOptions) -> list[dict[str, Any]]:
    """Returns the entries that ``remember`` has saved for this application."""
    target = _normalize(options.target)
    return [
        entry
        for entry in saved_applications()
        if entry[OPTIONS].get("target") == target
        and options.name in ("", entry[OPTIONS].get("name", ""))
    ]


def _lms_folder(connection: Connection) -> str:
    """Returns Tutor's root, or the folder of an embedded LMS."""
    folder, _ = connection.key
    return folder


def _normalize(target: str) -> str:
    """Returns the path or address in the form in which ``remember`` saves it."""
    if urlsplit(target).scheme in ("http", "https"):
        return target.rstrip("/")
    return str(Path(target).expanduser().resolve())


def moved_connections(
    targets: list[tuple[TargetApplication, BackendChoice]], context: LmsContext
) -> list[Connection]:
    """Returns connections of these applications to other LMSs; connecting to this LMS replaces
    them."""
    applications = {str(target.checkout.folder or target.url) for target, _ in targets}
    folder = str(context.lms.folder)
    return [
        connection
        for connection in _stored_connections()
        if connection.application in applications and _lms_folder(connection) != folder
    ]


def warn_of_moves(
    targets: list[tuple[TargetApplication, BackendChoice]], context: LmsContext
) -> None:
    """Adds a warning for each connection that connecting to this LMS replaces."""
    for connection in moved_connections(targets, context):
        context.warnings.append(
            f"{connection.title or connection.name} is connected to {connection.lms_url} "
            f"({_lms_folder(connection)}). This moves it to {context.addresses.lms_url}, which has "
            "none of the accounts and enrollments made in the other LMS. To remove the old "
            "connection, run `usher disconnect` first"
        )


def _is_requested(connection: Connection, command_options: CommandOptions) -> bool:
    """Whether the connection is one of an application that the options name."""
    checkouts = [recognise(options) for options in command_options.applications]
    locations = {str(checkout.folder or checkout.url) for checkout in checkouts}
    return bool({connection.application, connection.url} & locations)


def _stored_connections() -> list[Connection]:
    """Returns all saved connections. Raises Refused if their file can't be read."""
    try:
        return connections.read_all()
    except ConnectionsError as error:
        raise Refused(str(error)) from error


def _facts_of(target: TargetApplication, backend: BackendChoice) -> dict[str, str]:
    """Returns facts about the application that are shown above the plan."""
    backend_text = backend.name
    if backend.known_backend != backend.name:
        backend_text += f", which behaves as {backend.known_backend}"
    facts = target.facts
    if target.checkout.compose:
        access = "docker compose"
    else:
        access = target.manage.as_typed().strip() or "on another machine"
    description = "built on Usher, " if facts["usher"] else ""
    if target.gateway_url and target.url == target.gateway_url:
        description += "its API gateway, where it signs people in, "
    return {
        target.name: f"{target.checkout.title} at {target.url}, {description}{access}",
        f"{target.name}, versions": f"Django {facts['django']}, OAuth toolkit {facts['toolkit']}",
        f"{target.name}, .env": str(target.checkout.env_file or "(none)"),
        f"{target.name}, backend": backend_text,
    }


def _is_secret(key: str) -> bool:
    return key.endswith(("_SECRET", "_TOKEN"))
