"""Creates the missing ``.env`` of a checkout from its example file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from usher.connect.application.checkout import Checkout
from usher.connect.errors import Refused
from usher.contract.envfile import write_private

#: Names of example files, in the order in which they are looked for.
NAMES = (".env.example", "env.example", ".env.sample", ".env.template", ".env.dist")


def make_env(checkout: Checkout, *, dry_run: bool, confirm: Callable[[str], bool]) -> str:
    """Creates a missing ``.env`` and returns what was done, for people; "" if nothing was done.

    docker compose fails if the compose file names a ``.env`` that does not exist. confirm: asks a
    yes-or-no question and returns whether the answer is yes. Raises Refused.
    """
    path = checkout.env_file
    if path is None or path.exists() or checkout.folder is None:
        return ""
    example = _example_in(checkout.folder)
    if example is None:
        if checkout.compose:
            raise Refused(f"{path} is missing, and there is no .env.example to create it from")
        return ""
    copy_command = f"cp {example} {path}"
    if dry_run:
        if not checkout.compose:
            return f"{path} would be created from {example.name}"
        raise Refused(
            f"{path} is missing, and docker compose does not start without it. Create it: "
            f"{copy_command}; or leave --dry-run out, and connect creates it"
        )
    if not confirm(f"{path} is missing. Create it from {example.name}?"):
        raise Refused(f"{path} is missing; create it: {copy_command}")
    return _copy(example, path)


def with_example(checkout: Checkout) -> Checkout:
    """Returns the checkout for a dry run, which reads the example if the ``.env`` is missing."""
    if checkout.env_file is None or checkout.env_file.exists() or checkout.folder is None:
        return checkout
    return replace(checkout, example=_example_in(checkout.folder))


def _example_in(folder: Path) -> Path | None:
    return next((path for name in NAMES if (path := folder / name).is_file()), None)


def _copy(example: Path, path: Path) -> str:
    write_private(path, example.read_bytes())
    return f"{path} created from {example.name}"
