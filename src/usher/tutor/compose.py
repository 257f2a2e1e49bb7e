"""Adds ``extra_hosts``, through which containers reach applications on the machine that runs them.

The container engine resolves ``host-gateway`` on Linux and on macOS, so no gateway address has to
be found. Tutor has no patch for the services that it defines, and its override files belong to the
operator. So the lines are added to the generated compose files, between two marker comments, each
time before a container starts.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from usher.contract import tutor_values

#: Generated file → the service in it that sends requests to applications. Each file is the first
#: that defines its service.
SERVICES = {
    "local/docker-compose.yml": "lms",
    "local/docker-compose.prod.yml": "lms-worker",
    "local/docker-compose.jobs.yml": "lms-job",
}
_BEGIN = "# usher: host names of applications on this machine"
#: The first line of a block that an earlier version wrote; such a block is replaced.
_EARLIER_BEGIN = "# usher: the way to applications on this machine"
_END = "# usher: end"


class ComposeError(ValueError):
    """A generated compose file differs from Tutor's; the message names the file and what to do."""


def write_hosts(env: Path, names: Sequence[str]) -> None:
    """Makes ``names`` resolve to this machine in every service of SERVICES under ``env``.

    Writes only files that differ. Raises ComposeError, and leaves the file that the error names
    unchanged.
    """
    for name, service in SERVICES.items():
        path = env / name
        if not path.exists():
            continue
        present = path.read_text()
        try:
            changed = with_hosts(present, service, names)
        except ComposeError as error:
            raise ComposeError(f"{path}: {error}") from None
        if changed != present:
            # Replaced as a whole, so that nobody reads half a file.
            draft = path.with_suffix(".usher")
            draft.write_text(changed)
            draft.replace(path)


def with_hosts(text: str, service: str, names: Sequence[str]) -> str:
    """Returns the text of a compose file, changed so that ``names``, and no names of earlier calls,
    resolve to this machine in ``service``. Raises ComposeError if one of ``names`` is no host name,
    or if names are to be added and the file does not define the service, or has its ``extra_hosts``
    on one line."""
    # Removes the lines that an earlier call, or an earlier version of Usher, has inserted.
    begin = rf"(?:{_BEGIN}|{_EARLIER_BEGIN})"
    text = re.sub(rf"^ *{begin}\n(?:.*\n)*? *{_END}\n", "", text, flags=re.MULTILINE)
    if not names:
        return text
    try:
        names = [tutor_values.host(name, "a host name") for name in names]
    except tutor_values.NotAllowed as error:
        raise ComposeError(str(error)) from None
    # The line with the service's name, and the lines of its block, which are indented deeper.
    service_match = re.search(
        rf"^(?P<indent> +){service}: *\n(?P<block>(?:(?P=indent) +\S.*\n| *\n)+)",
        text,
        flags=re.MULTILINE,
    )
    margin_match = (
        re.search(r"^ +(?=\S)", service_match["block"], flags=re.MULTILINE)
        if service_match
        else None
    )
    if service_match is None or margin_match is None:
        raise ComposeError(f"no service {service}; to render the file again: tutor config save")
    margin = margin_match[0]  # the indentation of the service's keys
    start, block = service_match.start("block"), service_match["block"]
    items = [f'  - "{name}:host-gateway"' for name in names]
    key = re.search(rf"^{margin}extra_hosts: *(?P<value>[^\s#].*)?.*\n", block, flags=re.MULTILINE)
    if key is None:
        return _insert(text, start, margin, ["extra_hosts:", *items])
    if key["value"]:
        raise ComposeError(
            f"extra_hosts of the service {service} is written on one line; write a line for each"
        )
    # Another plugin has written ``extra_hosts``. A second one would make the file invalid, so the
    # names are added at the beginning of the other's list or mapping, with its indentation.
    first = re.compile(r"(?: *(?:#.*)?\n)*(?P<indent> *)(?P<dash>- )?").match(block, key.end())
    # Otherwise ``extra_hosts`` has no entries, and gets a list.
    if first and (first["dash"] or len(first["indent"]) > len(margin)):
        form = '- "{}:host-gateway"' if first["dash"] else '"{}": host-gateway'
        # ``_insert`` adds ``margin``, so only the rest of the indentation is added here.
        indent = first["indent"].removeprefix(margin)
        items = [indent + form.format(name) for name in names]
    return _insert(text, start + key.end(), margin, items)


def _insert(text: str, position: int, margin: str, lines: Sequence[str]) -> str:
    """Returns ``text`` with these lines inserted at the position. They are between the marker
    comments, and each is indented by ``margin``."""
    block = "".join(f"{margin}{line}\n" for line in (_BEGIN, *lines, _END))
    return text[:position] + block + text[position:]
