"""``usher status``: the connections that the current user has made on this machine."""

import json
import sys
from dataclasses import asdict
from datetime import datetime

import click
from rich.console import Console
from rich.markup import escape

from usher.contract import exits
from usher.contract.connections import EMBEDDED, Connection, ConnectionsError, read_all
from usher.contract.terminal import as_typed, wrap


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(as_json: bool) -> None:
    """List the connections made on this machine, and when each was last verified.

    The command only reads a file. To check whether a connection works, run usher doctor.
    """
    try:
        all_connections = read_all()
    except ConnectionsError as error:
        if as_json:
            click.echo(json.dumps({"error": str(error)}))
        click.echo(f"✗ failed  {wrap(str(error), indent=10)}", err=True)
        sys.exit(exits.NOT_RUN)
    if as_json:
        click.echo(
            json.dumps({"connections": [asdict(connection) for connection in all_connections]})
        )
        return
    console = Console(highlight=False, soft_wrap=True)
    if not all_connections:
        text = (
            "No connection was made on this machine. Make one:\n"
            "$ usher connect --application DIR\n"
            "An LMS of `usher dev` or of the demo is not listed here."
        )
        console.print(wrap(text, indent=0))
        return
    for connection in all_connections:
        _show(connection, console)
    console.print(f"\nCheck them with: {as_typed('usher doctor')}")


def _show(connection: Connection, console: Console) -> None:
    console.print(f"[bold]{escape(connection.title or connection.name)}[/bold]")
    rows = {
        "application": f"{connection.application} at {connection.url}",
        "LMS": f"{connection.lms_url}, {_place_of_lms(connection)}",
        "backend": connection.backend,
        "connected": _local_time(connection.connected),
        "verified": _local_time(connection.verified) or "never: some checks have not passed yet",
    }
    for name, value in rows.items():
        console.print(f"  {name:<12} {wrap(escape(value), indent=15)}")


def _place_of_lms(connection: Connection) -> str:
    if connection.lms == EMBEDDED:
        return f"embedded, in {connection.lms_home}"
    return f"Tutor root {connection.tutor_root}, mode {connection.mode}"


def _local_time(text: str) -> str:
    """Returns an ISO 8601 time in the local time zone, to the minute; "" for "", and any other
    text unchanged."""
    try:
        return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M}" if text else ""
    except ValueError:
        return text
