"""``python -m usher.embedded init | serve | replay``."""

import argparse
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from usher.contract.envfile import write_private

#: Port to serve on if neither the option nor the root URL names one.
DEFAULT_PORT = 8000


def _init(options: argparse.Namespace) -> int:
    from usher.embedded.home import folder

    plan = folder.Plan(
        root_url=options.root_url,
        application_url=options.application_url,
        plugins=tuple(options.plugin) if options.plugin else ("usher",),
        settings=json.load(options.settings_file) if options.settings_file else {},
        cheap_passwords=options.cheap_passwords,
    )
    try:
        folder.make(options.folder, plan)
    except folder.FolderError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command speaks to its operator
        return 1
    print(f"The LMS is in {options.folder}. To serve it:")  # noqa: T201
    print(f"python -m usher.embedded serve {options.folder}")  # noqa: T201
    return 0


def _serve(options: argparse.Namespace) -> int:
    from usher.embedded.conf.files import SettingsFileError, read_settings
    from usher.embedded.home.server import serve

    if options.pid_file:
        write_private(options.pid_file, f"{os.getpid()}\n".encode())
    try:
        root = urlsplit(str(read_settings(options.folder)["LMS_ROOT_URL"]))
    except SettingsFileError as error:
        print(f"{error}\ncreate the folder: python -m usher.embedded init", file=sys.stderr)  # noqa: T201
        return 1
    port = options.port or root.port or DEFAULT_PORT
    print(f"LMS at http://{options.host}:{port}; Ctrl-C stops it", flush=True)  # noqa: T201
    serve(options.folder, options.host, port, options.threads)
    return 0


def _replay(options: argparse.Namespace) -> int:
    from usher.embedded.replay.command import run

    return run(options.recordings, verbose=options.verbose)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m usher.embedded", description=__doc__)
    commands = parser.add_subparsers(required=True)
    init = commands.add_parser("init", help="create an LMS folder")
    init.add_argument("folder", type=Path)
    init.add_argument("--root-url", required=True, help="the LMS's own address, with its port")
    init.add_argument(
        "--application-url", default="", help="address of the application that signs learners in"
    )
    init.add_argument(
        "--plugin",
        action="append",
        help="name of a plugin's entry point; repeatable (default: usher)",
    )
    init.add_argument(
        "--settings-file",
        type=argparse.FileType(),
        help="JSON object of settings that override the defaults; - is standard input",
    )
    init.add_argument(
        "--cheap-passwords",
        action="store_true",
        help="hash passwords with one round: fast but insecure, for measurements only",
    )
    init.set_defaults(run=_init)
    serve = commands.add_parser("serve", help="serve an LMS folder")
    serve.add_argument("folder", type=Path)
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument(
        "--port", type=int, default=0, help="port to serve on (default: the root URL's port)"
    )
    serve.add_argument("--pid-file", type=Path, help="file that gets the id of the process")
    serve.add_argument("--threads", type=int, default=16, help="threads that answer requests")
    serve.set_defaults(run=_serve)
    replay = commands.add_parser("replay", help="compare the embedded LMS with recordings")
    replay.add_argument("recordings", type=Path)
    replay.add_argument("--verbose", action="store_true", help="show both values of a difference")
    replay.set_defaults(run=_replay)
    return parser


def main() -> int:
    options = _parser().parse_args()
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
