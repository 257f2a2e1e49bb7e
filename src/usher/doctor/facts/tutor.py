"""Facts about Tutor: its version, its root, and its rendered files."""

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from usher.doctor.facts.commands import Command
from usher.doctor.facts.memo import NotApplicableError, NotKnownError, fact

PLUGIN = "usher"
#: Folders below Tutor's root with the rendered files of the LMS.
CONFIG = "env/apps/openedx/config"
SETTINGS = "env/apps/openedx/settings/lms"
#: Text that the plugin renders into lms.env.yml and the settings files.
_PLUGIN_TEXT = re.compile(r"^USHER_|usher\.lms", re.MULTILINE)
#: Texts that the manual procedure adds to generated files.
_HAND_WRITTEN_TEXTS = (
    "THIRD_PARTY_AUTH_BACKENDS",
    "SOCIAL_AUTH_OAUTH_SECRETS",
    "mitxpro-oauth2",
    "ol-oauth2",
)


@dataclass
class Tutor:
    """root: the Tutor root, or None. mode: local, dev, nightly or k8s. executable: name or path.
    reason_without_root: why there is no root. is_replaced: whether another program runs the LMS."""

    root: Path | None
    mode: str = "local"
    executable: str = "tutor"
    reason_without_root: str = "no Tutor root is known: give --tutor-root if there is one"
    is_replaced: bool = False

    @property
    def _known_root(self) -> Path:
        """``root``. Raises NotKnownError without one."""
        if self.root is None:
            error_class = NotApplicableError if self.is_replaced else NotKnownError
            raise error_class(self.reason_without_root)
        return self.root

    @property
    def has_root(self) -> bool:
        return self.root is not None

    @fact
    def version(self) -> str:
        """``22.0.3``; '' when there is no tutor command. Raises NotKnownError without a root."""
        _ = self._known_root  # raises NotKnownError
        if shutil.which(self.executable) is None:
            return ""
        printed = Command((self.executable,)).output("--version")
        match = re.search(r"\d+(\.\d+)+", printed)
        return match[0] if match else printed.strip()

    @fact
    def default_root(self) -> Path:
        """The root that ``tutor`` uses by default. Raises NotKnownError without a root."""
        _ = self._known_root  # raises NotKnownError
        return Path(Command((self.executable,)).output("config", "printroot").strip())

    @fact
    def config(self) -> dict[str, Any]:
        """The content of config.yml; {} if it is no mapping. Raises NotKnownError if it is missing
        or not YAML."""
        path = self._known_root / "config.yml"
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            raise NotKnownError(f"{path} can't be read: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise NotKnownError(
                f"{path} is not valid YAML: {describe_yaml_error(error)}"
            ) from error
        return values if isinstance(values, dict) else {}

    @property
    def plugin_enabled(self) -> bool:
        return PLUGIN in (self.config.get("PLUGINS") or [])

    @property
    def lms_host(self) -> str:
        return str(self.config.get("LMS_HOST") or "local.openedx.io")

    @property
    def lms_url(self) -> str:
        """The address at which a browser finds this LMS."""
        if self.mode == "dev" or self.mode == "nightly":
            return f"http://{self.lms_host}:8000"
        scheme = "https" if self.config.get("ENABLE_HTTPS") else "http"
        return f"{scheme}://{self.lms_host}"

    def root_file(self, name: str) -> Path:
        return self._known_root / name

    @property
    def lms_env_file(self) -> Path:
        return self._known_root / CONFIG / "lms.env.yml"

    @property
    def settings_file(self) -> Path:
        name = "production" if self.mode in ("local", "k8s") else "development"
        return self._known_root / SETTINGS / f"{name}.py"

    @fact
    def has_rendered_plugin(self) -> bool:
        """Whether the rendered files contain the plugin's settings."""
        return all(_PLUGIN_TEXT.search(text) for text in self._rendered_texts())

    @fact
    def hand_edited_files(self) -> list[Path]:
        """Generated files with lines that were added by hand."""
        files = (self.lms_env_file, self.settings_file)
        return [path for path in files if any(text in _read(path) for text in _HAND_WRITTEN_TEXTS)]

    def _rendered_texts(self) -> list[str]:
        return [_read(self.lms_env_file), _read(self.settings_file)]

    def adapt_to_root(self, fix: str) -> str:
        """Returns the fix with this root, this mode and this mode's image in its ``tutor``
        commands."""
        if self.root is None:
            return fix
        root_option, mode = f"--root {shlex.quote(str(self.root))}", self.tutor_mode
        if mode == "dev":
            fix = re.sub(r"\bimages build openedx\b(?!-)", "images build openedx-dev", fix)

        def with_root(command: re.Match[str]) -> str:
            word = mode if command[1] == "local" else command[1]
            return f"tutor {root_option} {word}"

        return re.sub(r"\btutor (local|config|plugins|images)\b", with_root, fix)

    def command(self, *words: str) -> Command:
        return Command((self.executable, "--root", str(self._known_root), self.tutor_mode, *words))

    @property
    def tutor_mode(self) -> str:
        """Tutor's own name of the mode: nightly is Tutor's ``dev`` mode on another branch."""
        return "dev" if self.mode == "nightly" else self.mode

    @property
    def report_command(self) -> Command:
        """The command that prints the running LMS's report, independent of later renderings and
        builds."""
        if self.mode == "k8s":
            return self.command("exec", "lms", "./manage.py", "lms")
        return self.command("exec", "-T", "lms", "./manage.py", "lms")

    @fact
    def report(self) -> Any:
        """The LMS's report, from the running container. The report is not obtained by one of
        Tutor's jobs, because a job would start the databases of a stopped platform and leave them
        running."""
        return self.report_command.json("usher_report")


def _read(path: Path) -> str:
    """The file's text; '' if it can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def describe_yaml_error(error: yaml.YAMLError) -> str:
    """``line 3, column 1: found character '\\t' …``, without the text of the line."""
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{place}{getattr(error, 'problem', None) or 'it is malformed'}"
