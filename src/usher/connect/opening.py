"""Opens application and LMS from what the operator gave. All refusals are here, no changes."""

import os
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from usher.connect.application.checkout import Wishes, recognise
from usher.connect.application.remote import Remote
from usher.connect.application.side import Addresses, Side
from usher.connect.before import Leaving, known_subjects, state_home
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
from usher.contract import connections, tutor_values
from usher.contract.connections import Connection, ConnectionsError
from usher.contract.provisioning import Application

_OPEN_TO_ALL = (
    "the embedded LMS listens on port {port} of every interface, as the application's containers "
    "must reach it: close the port to others with your firewall"
)


@dataclass(frozen=True)
class Asked:
    """The options of the command line; '' for those to be detected.

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
    applications: list[Wishes] = field(default_factory=list)


@dataclass
class Opened:
    """facts: for the top of the plan; running: whether the platform runs now."""

    lms: Platform | EmbeddedLms
    addresses: Addresses
    runner: Runner
    secrets: Secrets
    facts: dict[str, str]
    warnings: list[str]
    running: bool


def open_lms(asked: Asked) -> Opened:
    """Raises Refused."""
    return _open_embedded(asked) if asked.lms == connections.EMBEDDED else _open_tutor(asked)


def _open_embedded(asked: Asked) -> Opened:
    """An embedded LMS that is there already, or is to be made."""
    if asked.tutor or asked.tutor_root or asked.mode:
        raise Refused("--tutor, --tutor-root and --mode don't go with an embedded LMS")
    check_installed()
    secrets = Secrets()
    runner = Runner(secrets)
    home = Path(asked.lms_home).expanduser().absolute() if asked.lms_home else embedded_home()
    checkouts = [recognise(wishes) for wishes in asked.applications]
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
        # Studio's API is at the LMS's address there.
        addresses=Addresses(url, lms_server_url, with_gateway=True, studio_url=lms_server_url),
        runner=runner,
        secrets=secrets,
        facts={
            "LMS": f"{url}, embedded",
            "folder": str(home),
            "state": "runs" if running else "does not run" if there else "is to be made",
        },
        warnings=[_OPEN_TO_ALL.format(port=lms.server.port)] if in_containers else [],
        running=running,
    )


def embedded_home() -> Path:
    """Where an embedded LMS is made without --lms-home."""
    return state_home() / "lms"


def _host_beside(urls: list[str]) -> str:
    """A host name of this machine that no application has: browsers share cookies by host."""
    taken = {urlsplit(url).hostname for url in urls}
    return "localhost" if "127.0.0.1" in taken else "127.0.0.1"


def _open_tutor(asked: Asked) -> Opened:
    """Finds Tutor, its root and mode. Raises Refused."""
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


def open_sides(asked: Asked, opened: Opened) -> list[tuple[Side, Choice]]:
    """Each application asked, and its backend. Raises Refused."""
    entries = opened.lms.entries()
    found: list[tuple[Side, Choice]] = []
    for wishes in asked.applications:
        side = _side_of(wishes, opened)
        if side.name in [known.name for known, _ in found]:
            raise Refused(f"two applications are called {side.name}; tell them apart with --name")
        side.probe(_as_connected(opened, side.name), opened.addresses)
        backend = configuration.choose_backend(
            entries, side.name, wishes.backend, side.default_backend
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
        f"{side.checkout.title} signs in by {before} until now. Learners' accounts in the LMS are "
        f"linked by that name; provisioning moves all links to {backend.name} in one transaction, "
        f"and back again if you connect with --backend {before}"
    ]


def reopen_sides(asked: Asked, opened: Opened) -> tuple[list[Side], list[str]]:
    """For undoing: the applications asked, or all that are connected with this root.

    The second list names all that are to go, also those of which only the platform knows.
    Raises Refused for one that was asked and can't be reached; another is left, with a warning.
    """
    if asked.applications:
        sides = [_reopened(wish, opened) for wish in asked.applications]
        return sides, [side.name for side in sides]
    place = opened.lms.place
    sides, names = [], []
    for subject in known_subjects():
        if subject.get("root") != str(place):
            continue
        wish = Wishes(**subject["wishes"])
        names.append(wish.name)
        try:
            sides.append(_reopened(wish, opened))
        except Refused as error:
            left = f"{wish.name} keeps its OAuth2 record and .env, undo it later: {error}"
            opened.warnings.append(left)
    leaving = Leaving(place).description()
    names += [found.name for found in leaving.applications] if leaving else []
    names += [str(entry["name"]) for entry in opened.lms.entries()]
    return sides, list(dict.fromkeys(names))


def _reopened(wishes: Wishes, opened: Opened) -> Side:
    side = _side_of(wishes, opened)
    side.probe(None, opened.addresses)
    return side


def _side_of(wishes: Wishes, opened: Opened) -> Side:
    checkout = recognise(wishes)
    return (Side if checkout.manage else Remote)(checkout, wishes, opened.secrets)


def _as_connected(opened: Opened, name: str) -> Application | None:
    """What the application's record should be, if it was connected before."""
    description = opened.lms.description() if opened.lms.enabled else None
    found = description.applications if description else []
    return next((application for application in found if application.name == name), None)


def remember(side: Side, opened: Opened) -> None:
    """So that ``usher disconnect`` finds this application without being told again."""
    wishes = {key: value for key, value in vars(side.wishes).items() if value}
    wishes["target"] = str(side.checkout.folder or side.checkout.url)
    wishes["name"] = side.name
    place = {"root": str(opened.lms.place), "lms": opened.lms.connection().get("lms", "")}
    side.before.keep_subject({"wishes": wishes, **place})


def connection_of(side: Side, backend: Choice, opened: Opened) -> Connection:
    """What other commands take as defaults."""
    checkout = side.checkout
    return Connection(
        name=side.name,
        title=checkout.title,
        edition=checkout.edition.name if checkout.edition else "",
        application=str(checkout.folder or side.url),
        url=side.url,
        server_url=side.wishes.server_url,
        manage=shlex.join(checkout.manage),
        env_file=str(checkout.env_file or ""),
        backend=backend.name,
        lms_url=opened.addresses.lms_url,
        lms_server_url=opened.addresses.lms_server_url,
        **opened.lms.connection(),
        connected=connections.now(),
    )


def with_defaults(asked: Asked) -> Asked:
    """Where nothing names an LMS, the one that the only connection, or that of the applications
    named, was made with."""
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


def as_before(asked: Asked) -> Asked:
    """For connecting again: what runs the LMS, where it isn't said, is what ran it before."""
    if asked.lms or asked.tutor or asked.tutor_root or asked.mode:
        return asked
    if asked.lms_home:
        return replace(asked, lms=connections.EMBEDDED)
    before = [each for each in _known() if _is_asked(each, asked)]
    if not before:  # an interrupted run has kept no more than what it was asked
        begun = [each for wishes in asked.applications for each in _subjects_of(wishes)]
        before = [
            Connection("", "", "", lms=str(each["lms"]), lms_home=str(each["root"]))
            for each in begun
            if each.get("lms")
        ]
    homes = {each.lms_home for each in before}
    if len(homes) == 1 and all(each.lms == connections.EMBEDDED for each in before):
        return replace(asked, lms=connections.EMBEDDED, lms_home=homes.pop())
    return asked


def all_before() -> list[Wishes]:
    """The applications that were connected from here, for ``usher connect`` without any named:
    those of the only LMS. Raises Refused where there are several."""
    known = _known()
    places = sorted({each.key[0] for each in known})
    if len(places) > 1:
        raise Refused(
            f"applications are connected to several LMSs ({', '.join(places)}); name those to "
            "connect: --application DIRECTORY"
        )
    return [Wishes(target=each.application, name=each.name) for each in known]


def with_options_of_before(wishes: Wishes) -> Wishes:
    """Options that belong to one application and are not given again are as they were given
    before, so that connecting again takes no more than the application's name."""
    found = _subjects_of(wishes)
    if not found:
        return wishes
    given = {key: value for key, value in vars(wishes).items() if value}
    return Wishes(**{**found[0]["wishes"], **given, "target": _place_of(wishes.target)})


def _subjects_of(wishes: Wishes) -> list[dict[str, Any]]:
    """What is kept of this application."""
    target = _place_of(wishes.target)
    return [
        each
        for each in known_subjects()
        if each["wishes"].get("target") == target
        and wishes.name in ("", each["wishes"].get("name", ""))
    ]


def _place_of(target: str) -> str:
    if urlsplit(target).scheme in ("http", "https"):
        return target.rstrip("/")
    return str(Path(target).expanduser().resolve())


def moved(sides: list[tuple[Side, Choice]], opened: Opened) -> list[Connection]:
    """Connections of these applications to another LMS, which end when they are connected here."""
    applications = {str(side.checkout.folder or side.url) for side, _ in sides}
    place = str(opened.lms.place)
    return [each for each in _known() if each.application in applications and each.key[0] != place]


def warn_of_moves(sides: list[tuple[Side, Choice]], opened: Opened) -> None:
    for each in moved(sides, opened):
        opened.warnings.append(
            f"{each.title or each.name} is connected to {each.lms_url} ({each.key[0]}); this moves "
            f"it to {opened.addresses.lms_url}, which has none of the accounts and enrollments "
            "that it has made there. To end that connection properly, run usher disconnect first"
        )


def _is_asked(connection: Connection, asked: Asked) -> bool:
    checkouts = [recognise(wishes) for wishes in asked.applications]
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
