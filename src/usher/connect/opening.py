"""Opens application and LMS from what the operator gave. All refusals are here, no changes."""

import os
import shlex
from dataclasses import dataclass, field, replace

from usher.connect.application.checkout import Wishes, recognise
from usher.connect.application.remote import Remote
from usher.connect.application.side import Addresses, Side
from usher.connect.before import Leaving, known_subjects
from usher.connect.errors import Refused, ToolFailed
from usher.connect.openedx import configuration
from usher.connect.openedx.configuration import Choice
from usher.connect.openedx.instance import (
    Instance,
    check_cluster,
    check_version,
    find_mode,
    find_root,
    find_tutor,
    look_at,
    running_modes,
)
from usher.connect.openedx.platform import Platform
from usher.connect.process import Runner, Secrets
from usher.contract import connections, tutor_values
from usher.contract.connections import Connection, ConnectionsError
from usher.contract.provisioning import Application


@dataclass(frozen=True)
class Asked:
    """The options of the command line; '' for those to be detected."""

    tutor: str = ""
    tutor_root: str = ""
    mode: str = ""
    lms_url: str = ""
    lms_server_url: str = ""
    applications: list[Wishes] = field(default_factory=list)


@dataclass
class Opened:
    """facts: for the top of the plan; running: whether the platform runs now."""

    platform: Platform
    addresses: Addresses
    runner: Runner
    secrets: Secrets
    facts: dict[str, str]
    warnings: list[str]
    running: bool


def open_platform(asked: Asked) -> Opened:
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
        platform=Platform(instance, runner),
        addresses=Addresses(lms_url, lms_server_url, with_gateway=mode != "k8s"),
        runner=runner,
        secrets=secrets,
        facts={
            "Tutor": f"{look['version']}, {tutor}",
            "root": str(root),
            "mode": f"{mode} ({why})",
            "LMS": lms_url,
        },
        warnings=[warning] if warning else [],
        running=instance.command in running,
    )


def _address(value: str, what: str) -> str:
    try:
        return tutor_values.address(value, what)
    except tutor_values.NotAllowed as error:
        raise Refused(str(error)) from error


def open_sides(asked: Asked, opened: Opened) -> list[tuple[Side, Choice]]:
    """Each application asked, and its backend. Raises Refused."""
    instance = opened.platform.instance
    entries = configuration.entries(instance.config_file, instance.look)
    found: list[tuple[Side, Choice]] = []
    for wishes in asked.applications:
        side = _side_of(wishes, opened)
        if side.name in [known.name for known, _ in found]:
            raise Refused(f"two applications are called {side.name}; tell them apart with --name")
        side.probe(_known(opened, side.name), opened.addresses)
        backend = configuration.choose_backend(
            entries, side.name, wishes.backend, side.default_backend
        )
        side.check_backend(backend.base)
        entries = configuration.with_entry(entries, side.entry(backend))
        found.append((side, backend))
        opened.facts |= _facts_of(side, backend)
    return found


def reopen_sides(asked: Asked, opened: Opened) -> tuple[list[Side], list[str]]:
    """For undoing: the applications asked, or all that are connected with this root.

    The second list names all that are to go, also those of which only the platform knows.
    Raises Refused for one that was asked and can't be reached; another is left, with a warning.
    """
    if asked.applications:
        sides = [_reopened(wish, opened) for wish in asked.applications]
        return sides, [side.name for side in sides]
    instance = opened.platform.instance
    sides, names = [], []
    for subject in known_subjects():
        if subject.get("root") != str(instance.root):
            continue
        wish = Wishes(**subject["wishes"])
        names.append(wish.name)
        try:
            sides.append(_reopened(wish, opened))
        except Refused as error:
            left = f"{wish.name} keeps its OAuth2 record and .env, undo it later: {error}"
            opened.warnings.append(left)
    leaving = Leaving(instance.root).description()
    names += [found.name for found in leaving.applications] if leaving else []
    entries = configuration.entries(instance.config_file, instance.look)
    names += [str(entry["name"]) for entry in entries]
    return sides, list(dict.fromkeys(names))


def _reopened(wishes: Wishes, opened: Opened) -> Side:
    side = _side_of(wishes, opened)
    side.probe(None, opened.addresses)
    return side


def _side_of(wishes: Wishes, opened: Opened) -> Side:
    checkout = recognise(wishes)
    return (Side if checkout.manage else Remote)(checkout, wishes, opened.secrets)


def _known(opened: Opened, name: str) -> Application | None:
    """What the application's record should be, if it was connected before."""
    description = opened.platform.description() if opened.platform.now.enabled else None
    found = description.applications if description else []
    return next((application for application in found if application.name == name), None)


def remember(side: Side, opened: Opened) -> None:
    """So that ``usher disconnect`` finds this application without being told again."""
    wishes = {key: value for key, value in vars(side.wishes).items() if value}
    wishes["target"] = str(side.checkout.folder or side.checkout.url)
    wishes["name"] = side.name
    side.before.keep_subject({"wishes": wishes, "root": str(opened.platform.instance.root)})


def connection_of(side: Side, backend: Choice, opened: Opened) -> Connection:
    """What other commands take as defaults."""
    instance, checkout = opened.platform.instance, side.checkout
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
        tutor=str(instance.tutor),
        tutor_root=str(instance.root),
        mode=instance.mode,
        connected=connections.now(),
    )


def with_defaults(asked: Asked) -> Asked:
    """Where nothing names a Tutor, the one that the only connection was made with."""
    if asked.tutor or asked.tutor_root or asked.mode or os.environ.get("TUTOR_ROOT"):
        return asked
    found = {(each.tutor, each.tutor_root, each.mode) for each in _known_with_tutor()}
    if len(found) != 1:
        return asked
    tutor, root, mode = found.pop()
    return replace(
        asked,
        tutor=tutor or asked.tutor,
        tutor_root=root or asked.tutor_root,
        mode=mode or asked.mode,
    )


def _known_with_tutor() -> list[Connection]:
    try:
        found = connections.known()
    except ConnectionsError as error:
        raise Refused(str(error)) from error
    return [each for each in found if each.lms == connections.TUTOR and each.tutor_root]


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
