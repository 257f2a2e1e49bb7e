"""``usher why``: the application's ``manage.py why``, from any folder."""

import subprocess
import sys
from pathlib import Path

import click


@click.command()
@click.argument("learner")
@click.argument("run", default="")
@click.option(
    "--application",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=".",
    help="Folder of the application's manage.py. Default: this one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def why(learner: str, run: str, folder: Path, as_json: bool) -> None:
    """Explain the state of LEARNER (e-mail, username or LMS username), or of one RUN of theirs."""
    if not (folder / "manage.py").is_file():
        raise click.ClickException(
            f"{folder.resolve()} has no manage.py: name the application's folder with "
            "--application FOLDER, or run `manage.py why` where the application runs."
        )
    arguments = [*(["--json"] if as_json else []), "--", learner, *([run] if run else [])]
    command = [sys.executable, "manage.py", "why", *arguments]
    sys.exit(subprocess.run(command, cwd=folder, check=False).returncode)
