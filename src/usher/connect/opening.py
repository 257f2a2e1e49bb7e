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
from usher.connect.application.remote import Remote
from usher.connect.application.side import Addresses, Side
from usher.connect.errors import Refused, ToolFailed
from usher.connect.openedx import configuration
from usher.connect.openedx.configuration import Choice
from usher.connect.openedx.embedded import (
    CONTAINER_HOST,
    PORT,
    EmbeddedLms,
    check_installed,
    check_port,
    url_of,
)
from usher.connect.openedx.instance import (
    Instance,
    check_cluster,
    check_version,
    find_mode,
    find_root,
    find_tutor,
    look_at,
    running_modes,
    runs,
)
from usher.connect.openedx.platform import Platform
from usher.connect.process import Runner, Secrets
from usher.connect.saved_state import SavedDescription, known_subjects, state_home
from usher.contract import connections, tutor_values
from usher.contract.connections import Connection, ConnectionsError
from usher.contract.provisioning import Application

_OPEN_TO_ALL = (
    "the embedded LMS listens on port {port} of every interface, as the application's containers "
    "must reach it: close the port to others with your firewall"
)


@dataclass(frozen=True)
class CommandOptions:
    """The options of the command line; '' for values to detect.

    lms: what runs the LMS, as ``usher.contract.connections`` names it; lms_home: folder of an
    embedded one.
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
class Opened:
    """An LMS that was found. facts: shown above the plan; running: whether the LMS runs now."""

    lms: Platform | EmbeddedLms
    addresses: Addresses
    runner: Runner
    secrets: Secrets
    facts: dict[str, str]
    warnings: list[str]
    running: bool


def open_lms(asked: CommandOptions) -> Opened:
    """Returns the LMS that the options name. Raises Refused."""
    return _open_embedded(asked) if asked.lms == connections.EMBEDDED else _open_tutor(asked)


def _open_embedded(asked: CommandOptions) -> Opened:
    """Returns the embedded LMS of the given folder, which may not exist yet. Raises Refused."""
    if asked.tutor or asked.tutor_root or asked.mode:
        raise Refused("--tutor, --tutor-root and --mode can't be used with an embedded LMS")
    check_installed()
    secrets = Secrets()
    runner = Runner(secrets)
    home = Path(asked.lms_home).expanduser().absolute() if asked.lms_home else embedded_home()
    checkouts = [recognise(options) for options in asked.applications]
    of_others = [each for each in _known() if each.lms_home == str(home)]
    in_containers = any(each.compose for each in checkouts) or any(
        each.manage.startswith("docker ") for each in of_others
    )
    host = CONTAINER_HOST if in_containers else _host_beside([each.url for each in of_others])
    there = url_of(home)
    url = _address(asked.lms_url or there or f"http://{host}:{PORT}", "--lms-url")
    others = {each.name for each in of_others} - {each.name for each in checkouts}
    if there and url != there and others:
        raise Refused(
            f"the LMS in {home} is at {there}, where {', '.join(sorted(others))} finds it; "
            "disconnect that one first, or leave --lms-url out"
        )
    lms = EmbeddedLms(home, url, runner, open_to_containers=in_containers)
    secrets.add(lms.generated().values())
    running = lms.server.runs
    if not (running and url == there):
        check_port(url)
    lms_server_url = _address(asked.lms_server_url or url, "--lms-server-url")
    return Opened(
        lms=lms,
        # The embedded LMS serves Studio's API at its own address.
        addresses=Addresses(url, lms_server_url, with_gateway=True, studio_url=lms_server_url),
        runner=runner,
        secrets=secrets,
        facts={
            "LMS": f"{url}, embedded",
            "folder": str(home),
            "state": "runs" if running else "does not run" if there else "will be created",
        },
        warnings=[_OPEN_TO_ALL.format(port=lms.server.port)] if in_containers else [],
        running=running,
    )


def embedded_home() -> Path:
    """Returns the folder of the embedded LMS if --lms-home is not given."""
    return state_home() / "lms"


def _host_beside(urls: list[str]) -> str:
    """Returns a host name of this machine that is not in ``urls``.

    Browsers share cookies between the ports of a host, so LMS and application need different hosts.
    """
    taken = {urlsplit(url).hostname for url in urls}
    return "localhost" if "127.0.0.1" in taken else "127.0.0.1"


def _open_tutor(asked: CommandOptions) -> Opened:
    """Returns the platform with its Tutor, root and mode. Raises Refused."""
    secrets = Secrets()
    runner = Runner(secrets)
    tutor, python = find_tutor(asked.tutor)
    try:
        root = find_root(asked.tutor_root, tutor, runner)
        look = look_at(python, root, runner)
    except ToolFailed as error:
        raise Refused(str(error)) from error
    secrets.add(str(look["usher"].get(key, "")) for key in look["usher"] if _is_secret(key))
    warning = check_version(look["version"])
    running = [] if asked.mode == "k8s" else running_modes(look["values"], runner)
    mode, why = find_mode(asked.mode, look["version"], running)
    if mode == "k8s":
        check_cluster(runner, str(look["values"]["K8S_NAMESPACE"]))
    instance = Instance(tutor, python, root, mode, look)
    lms_url = _address(asked.lms_url or instance.lms_url, "the LMS's address (--lms-url)")
    lms_server_url = _address(asked.lms_server_url or lms_url, "--lms-server-url")
    return Opened(
        lms=Platform(instance, runner),
        addresses=Addresses(
            lms_url, lms_server_url, with_gateway=mode != "k8s", studio_url=instance.studio_url
        ),
        runner=runner,
        secrets=secrets,
        facts={
            "Tutor": f"{look['version']}, {tutor}",
            "root": str(root),
            "mode": f"{mode} ({why})",
            "LMS": lms_url,
        },
        warnings=[warning] if warning else [],
        running=_is_up(instance, runner) if instance.command in running else False,
    )


def _is_up(instance: Instance, runner: Runner) -> bool:
    try:
        return runs(instance, runner)
    except ToolFailed as error:
        raise Refused(f"docker does not answer: {error}") from error


def _address(value: str, what: str) -> str:
    try:
        return tutor_values.address(value, what)
    except tutor_values.NotAllowed as error:
        raise Refused(str(error)) from error


def open_sides(
    asked: CommandOptions, opened: Opened, *, dry_run: bool = False
) -> list[tuple[Side, Choice]]:
    """Returns each requested application with its backend. Raises Refused."""
    entries = opened.lms.entries()
    found: list[tuple[Side, Choice]] = []
    for options in asked.applications:
        side = _side_of(options, opened, dry_run=dry_run)
        if side.name in [known.name for known, _ in found]:
            raise Refused(f"two applications are called {side.name}; tell them apart with --name")
        side.probe(_as_connected(opened, side.name), opened.addresses)
        backend = configuration.choose_backend(
            entries, side.name, options.backend, side.default_backend
        )
        side.check_backend(backend.base)
        opened.warnings += _change_of_backend(entries, side, backend)
        entries = configuration.with_entry(entries, side.entry(backend))
        found.append((side, backend))
        opened.facts |= _facts_of(side, backend)
    return found


def _change_of_backend(entries: list[dict[str, Any]], side: Side, backend: Choice) -> list[str]:
    before = next((each.get("backend") for each in entries if each.get("name") == side.name), None)
    if before in (None, backend.name):
        return []
    return [
        f"{side.checkout.title} has signed in with backend {before} until now, and the links of "
        f"its learners in the LMS name it. Provisioning moves all links to {backend.name} in one "
        f"transaction; to move them back, connect with --backend {before}"
    ]


def reopen_sides(asked: CommandOptions, opened: Opened) -> tuple[list[Side], list[str]]:
    """Returns the applications to disconnect: those requested, or all of this LMS.

    The second list has the names of all of them, including those that only the LMS knows.
    Raises Refused if a requested application can't be reached. One that was not requested by name
    is then left as it is, with a warning.
    """
    if asked.applications:
        sides = [_reopened(options, opened) for options in asked.applications]
        return sides, [side.name for side in sides]
    place = opened.lms.place
    sides, names = [], []
    for subject in known_subjects():
        if subject.get("root") != str(place):
            continue
        options = ApplicationOptions(**subject["wishes"])
        names.append(options.name)
        try:
            sides.append(_reopened(options, opened))
        except Refused as error:
            left = f"{options.name} keeps its OAuth2 record and .env; disconnect it later: {error}"
            opened.warnings.append(left)
    saved = SavedDescription(place).description()
    names += [found.name for found in saved.applications] if saved else []
    names += [str(entry["name"]) for entry in opened.lms.entries()]
    return sides, list(dict.fromkeys(names))


def _reopened(options: ApplicationOptions, opened: Opened) -> Side:
    side = _side_of(options, opened)
    side.probe(None, opened.addresses)
    return side


def _side_of(options: ApplicationOptions, opened: Opened, *, dry_run: bool = False) -> Side:
    checkout = recognise(options)
    if dry_run:
        checkout = with_example(checkout)
    return (Side if checkout.manage else Remote)(checkout, options, opened.secrets)


def _as_connected(opened: Opened, name: str) -> Application | None:
    """Returns the application's entry in the rendered description; None if it has none."""
    description = opened.lms.description() if opened.lms.enabled else None
    found = description.applications if description else []
    return next((application for application in found if application.name == name), None)


def remember(side: Side, opened: Opened) -> None:
    """Saves the options of this application, so that ``usher disconnect`` needs none."""
    options = {key: value for key, value in vars(side.options).items() if value}
    options["target"] = str(side.checkout.folder or side.checkout.url)
    options["name"] = side.name
    place = {"root": str(opened.lms.place), "lms": opened.lms.connection().get("lms", "")}
    side.before.keep_subject({"wishes": options, **place})


def connection_of(side: Side, backend: Choice, opened: Opened) -> Connection:
    """Returns the connection as it is saved for other commands, which take defaults from it."""
    checkout = side.checkout
    return Connection(
        name=side.name,
        title=checkout.title,
        edition=checkout.edition.name if checkout.edition else "",
        application=str(checkout.folder or side.url),
        url=side.url,
        server_url=side.options.server_url,
        manage=shlex.join(checkout.manage),
        env_file=str(checkout.env_file or ""),
        backend=backend.name,
        lms_url=opened.addresses.lms_url,
        lms_server_url=opened.addresses.lms_server_url,
        **opened.lms.connection(),
        connected=connections.now(),
    )


def with_defaults(asked: CommandOptions) -> CommandOptions:
    """Returns the options with an LMS, if they name none.

    It is the LMS of the requested applications' connections, or that of the only connection.
    """
    named = asked.tutor or asked.tutor_root or asked.mode or asked.lms_home
    if named or (not asked.lms and os.environ.get("TUTOR_ROOT")):
        return asked
    known = [each for each in _known() if asked.lms in ("", each.lms)]
    if asked.applications:
        known = [each for each in known if _is_asked(each, asked)] or known
    found = {(each.lms, each.lms_home, each.tutor, each.tutor_root, each.mode) for each in known}
    if len(found) != 1:
        return asked
    lms, home, tutor, root, mode = found.pop()
    return replace(asked, lms=lms, lms_home=home, tutor=tutor, tutor_root=root, mode=mode)


def as_before(asked: CommandOptions) -> CommandOptions:
    """Returns the options with ``lms`` as in the applications' last connection, if not given."""
    if asked.lms or asked.tutor or asked.tutor_root or asked.mode:
        return asked
    if asked.lms_home:
        return replace(asked, lms=connections.EMBEDDED)
    before = [each for each in _known() if _is_asked(each, asked)]
    if not before:  # an interrupted run has saved its options, but no connection
        begun = [each for options in asked.applications for each in _subjects_of(options)]
        before = [
            Connection("", "", "", lms=str(each["lms"]), lms_home=str(each["root"]))
            for each in begun
            if each.get("lms")
        ]
    homes = {each.lms_home for each in before}
    if len(homes) == 1 and all(each.lms == connections.EMBEDDED for each in before):
        return replace(asked, lms=connections.EMBEDDED, lms_home=homes.pop())
    return asked


def all_before() -> list[ApplicationOptions]:
    """Returns the connected applications, for ``usher connect`` without --application.

    Raises Refused if they are connected to more than one LMS.
    """
    known = _known()
    places = sorted({each.key[0] for each in known})
    if len(places) > 1:
        raise Refused(
            f"applications are connected to several LMSs ({', '.join(places)}); name those to "
            "connect: --application DIRECTORY"
        )
    return [ApplicationOptions(target=each.application, name=each.name) for each in known]


def with_earlier_options(options: ApplicationOptions) -> ApplicationOptions:
    """Returns ``options``, completed with the options given when this application was connected.

    So connecting it again takes no more than its path or address.
    """
    found = _subjects_of(options)
    if not found:
        return options
    given = {key: value for key, value in vars(options).items() if value}
    return ApplicationOptions(
        **{**found[0]["wishes"], **given, "target": _place_of(options.target)}
    )


def _subjects_of(options: ApplicationOptions) -> list[dict[str, Any]]:
    """Returns what ``remember`` has saved of this application."""
    target = _place_of(options.target)
    return [
        each
        for each in known_subjects()
        if each["wishes"].get("target") == target
        and options.name in ("", each["wishes"].get("name", ""))
    ]


def _place_of(target: str) -> str:
    if urlsplit(target).scheme in ("http", "https"):
        return target.rstrip("/")
    return str(Path(target).expanduser().resolve())


def moved(sides: list[tuple[Side, Choice]], opened: Opened) -> list[Connection]:
    """Returns connections of these applications to other LMSs; connecting here replaces them."""
    applications = {str(side.checkout.folder or side.url) for side, _ in sides}
    place = str(opened.lms.place)
    return [each for each in _known() if each.application in applications and each.key[0] != place]


def warn_of_moves(sides: list[tuple[Side, Choice]], opened: Opened) -> None:
    for each in moved(sides, opened):
        opened.warnings.append(
            f"{each.title or each.name} is connected to {each.lms_url} ({each.key[0]}). This moves "
            f"it to {opened.addresses.lms_url}, which has none of the accounts and enrollments "
            "made in the other LMS. To remove the old connection, run usher disconnect first"
        )


def _is_asked(connection: Connection, asked: CommandOptions) -> bool:
    checkouts = [recognise(options) for options in asked.applications]
    named = {str(checkout.folder or checkout.url) for checkout in checkouts}
    return bool({connection.application, connection.url} & named)


def _known() -> list[Connection]:
    try:
        return connections.known()
    except ConnectionsError as error:
        raise Refused(str(error)) from error


def _facts_of(side: Side, backend: Choice) -> dict[str, str]:
    named = backend.name
    if backend.base != backend.name:
        named += f", which behaves as {backend.base}"
    facts = side.facts
    how = "docker compose" if side.checkout.compose else side.manage.shown().strip()
    how = how or "known by its address alone"
    built = "built on Usher, " if facts["usher"] else ""
    if side.gateway_url and side.url == side.gateway_url:
        built += "its API gateway, where it signs people in, "
    return {
        side.name: f"{side.checkout.title} at {side.url}, {built}{how}",
        f"{side.name}, versions": f"Django {facts['django']}, OAuth toolkit {facts['toolkit']}",
        f"{side.name}, .env": str(side.checkout.env_file or "(none)"),
        f"{side.name}, backend": named,
    }


def _is_secret(key: str) -> bool:
    return key.endswith(("_SECRET", "_TOKEN"))
