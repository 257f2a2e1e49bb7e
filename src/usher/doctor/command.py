"""``usher doctor`` and ``usher conformance``: parse, call, present."""

import json
import sys
from pathlib import Path

import click
from rich.console import Console

from usher.doctor.conformance import run as conformance_run
from usher.doctor.conformance.surroundings import ConformanceError
from usher.doctor.conformance.table import show as show_conformance

_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.command()
@click.option("--lms", "lms_url", required=True, metavar="URL", help="Address of the LMS.")
@click.option("--token-file", required=True, type=_FILE, help="Holds the service worker's token.")
@click.option("--client", "client_id", default="", metavar="ID", help="An OAuth client there.")
@click.option("--client-secret-file", type=_FILE, help="Holds that client's secret.")
@click.option("--redirect-uri", default="", help="A redirect address of that client.")
@click.option("--learner-token-file", type=_FILE, help="Holds a learner's token, used to read.")
@click.option("--ended-token-file", type=_FILE, help="Holds a token that has ended.")
@click.option("--backend", default="", help="Sign-in backend; found out when not given.")
@click.option(
    "--write", is_flag=True, help="Also ask what changes the LMS, as a throw-away learner."
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def conformance(
    lms_url: str,
    token_file: Path,
    client_id: str,
    client_secret_file: Path | None,
    redirect_uri: str,
    learner_token_file: Path | None,
    ended_token_file: Path | None,
    backend: str,
    write: bool,
    as_json: bool,
) -> None:
    """Check an Open edX against the facts Usher relies on.

    Reads only, unless --write is given. Exit code 1 when an answer deviates, 2 when the LMS can't
    be asked.
    """
    request = conformance_run.Request(
        lms_url=lms_url,
        token=_secret(token_file),
        learner_token=_secret(learner_token_file),
        ended_token=_secret(ended_token_file),
        client_id=client_id,
        client_secret=_secret(client_secret_file),
        redirect_uri=redirect_uri,
        backend=backend,
        write=write,
    )
    try:
        result = conformance_run.check(request)
    except ConformanceError as error:
        click.echo(f"✗ failed  {error}", err=True)
        sys.exit(2)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=1))
    else:
        show_conformance(result, Console())
    sys.exit(0 if result.agrees else 1)


def _secret(path: Path | None) -> str:
    return path.read_text(encoding="utf-8").strip() if path else ""
