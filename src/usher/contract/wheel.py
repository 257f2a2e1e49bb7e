"""Builds a wheel of the installed package, so that Tutor's environment and the LMS run the same
code as this process.

It works however Usher was installed: from an index, a wheel or an editable checkout. It needs
neither network nor build tools. The same code always gives the same bytes, so that Docker rebuilds
the image's layers only after a change.
"""

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import usher

DISTRIBUTION = "openedx-usher"
_WHEEL = "Wheel-Version: 1.0\nGenerator: usher\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
#: The date of all files, so that the bytes don't depend on when the wheel is built.
_OLDEST_DATE_OF_ZIP = (1980, 1, 1, 0, 0, 0)


def version() -> str:
    return metadata.version(DISTRIBUTION)


def filename() -> str:
    return f"{DISTRIBUTION.replace('-', '_')}-{version()}-py3-none-any.whl"


def build() -> bytes:
    """Returns the wheel's bytes. Sources: PEP 427 for the wheel format, PEP 376 for RECORD."""
    info = f"{DISTRIBUTION.replace('-', '_')}-{version()}.dist-info"
    distribution = metadata.distribution(DISTRIBUTION)
    files = dict(_package_files())
    for name in ("METADATA", "entry_points.txt"):
        files[f"{info}/{name}"] = (distribution.read_text(name) or "").encode()
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    record = [f"{path},{_digest(content)},{len(content)}" for path, content in files.items()]
    # The line of RECORD itself has neither a digest nor a length.
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    target = io.BytesIO()
    # Not compressed, because the bytes would differ between versions of zlib.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path, _OLDEST_DATE_OF_ZIP)
            # The upper half has the Unix mode: a regular file, writable by its owner only.
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return target.getvalue()


def _package_files() -> Iterator[tuple[str, bytes]]:
    """Yields (path in the wheel, content) of each file of the package, in a fixed order."""
    root = Path(usher.__path__[0])
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root.parent)
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in inside.parts:
            yield inside.as_posix(), path.read_bytes()


def _digest(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return "sha256=" + digest.rstrip(b"=").decode()
