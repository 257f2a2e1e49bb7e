"""The application's ``.env``."""

import shlex
import stat

from usher.contract.environment import ALL_KEYS, Env
from usher.contract.fingerprints import configuration_fingerprints
from usher.doctor.check import Check, Finding, check, failed, ok, warning
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.fixes import RESTART


@check
class EnvFileIsUnambiguous(Check):
    """Every program reads the same values from the .env.

    Symptom: a setting in `.env` seems to be ignored.
    Cause: a key is there twice, quotes are curly or not closed, or spaces surround `=`: programs
        read these differently.
    Fix: correct the line that the finding names.
    """

    id = "ENV-1"

    def probe(self, context: Context) -> Finding:
        found = context.application.env.problems()
        # The file of `usher dev` is read by a shell and by Usher only, never by `docker run`.
        names = () if context.dev_home else ALL_KEYS
        problems = [problem for problem in found if problem.serious or problem.key in names]
        path = context.application.env_file
        serious = [problem for problem in problems if problem.serious]
        if not problems:
            return ok(f"{path} is read alike by everyone")
        first = (serious or problems)[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        say = failed if serious else warning
        return say(
            f"{path}, {first}{more}",
            cause="programs that read this file interpret that line differently, or ignore it",
            fix=f"correct line {first.line} of {path}",
        )


@check
class EnvFileIsPrivate(Check):
    """Only its owner can read the .env.

    Symptom: secrets are exposed.
    Cause: other users of the machine can read `.env`, or git has it.
    Fix: `chmod 600`, and remove it from git; replace every secret that was published.
    """

    id = "ENV-2"

    def probe(self, context: Context) -> Finding:
        path = context.application.env_file
        _ = context.application.env
        assert path is not None  # noqa: S101 - env raised otherwise
        shown = shlex.quote(str(path))
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            return failed(
                f"{path} has mode {mode:04o}",
                cause="other users of this machine can read the secrets in it",
                fix=f"chmod 600 {shown}",
                repair="close-env",
            )
        if context.application.tracked_by_git:
            return failed(
                f"{path} is tracked by git",
                cause="everybody who can read the repository can read the secrets in it",
                fix=f"git rm --cached {shown} && echo .env >> .gitignore, then make new secrets",
            )
        return ok(f"{path} has mode {mode:04o} and is not in git")


@check
class EnvFileIsInUse(Check):
    """The running application has the values of its .env.

    Symptom: `.env` was changed without effect.
    Cause: containers were restarted, not re-created, or the server was not restarted.
    Fix: `docker compose up -d` re-creates containers whose settings changed.
    """

    id = "ENV-3"
    depends_on = ("ENV-1", "ENV-4")

    def probe(self, context: Context) -> Finding:
        application = context.application
        values = {key: value for key, value in application.env.values().items() if key in ALL_KEYS}
        if running := application.running_fingerprints:
            token = values.get(Env.OPENEDX_SERVICE_WORKER_API_TOKEN, "")
            written = configuration_fingerprints(values, token)
            stale = [key for key in written if running.get(key) != written[key]]
            # The service worker's token differs, with which all fingerprints are made.
            if len(stale) == len(written):
                stale = [Env.OPENEDX_SERVICE_WORKER_API_TOKEN]
        else:
            seen = application.report.get("settings", {})
            stale = [
                key for key in values if key in seen and _tidy(seen[key]) != _tidy(values[key])
            ]
        if stale:
            return failed(
                f"the running application has other values than .env: {', '.join(stale)}",
                cause="it was started with an older .env; restarting containers does not reload it",
                fix=RESTART,
            )
        return ok("the running application has the values of .env")


@check
class SettingsReadTheEnvFile(Check):
    """The application's settings read the names in its .env.

    Symptom: what `usher connect` wrote in `.env` is ignored.
    Cause: the project's settings do not read these names from the environment.
    Fix: the lines to add to the settings, see docs/integrate.md.
    """

    id = "ENV-4"
    depends_on = ("ENV-1",)

    def probe(self, context: Context) -> Finding:
        report = context.application.report
        if "read" not in report or "environment" not in report:
            raise NotKnownError("the application does not report which settings it reads")
        written = {key for key, value in context.application.env.values().items() if value}
        asked = written & _SETTINGS if not report.get("usher") else written & set(ALL_KEYS)
        in_process, read = set(report["environment"]), set(report["read"])
        # Settings that read the file themselves don't need the environment.
        reads_file = bool((asked - in_process) & read)
        ignored = sorted((asked - read - {Env.OPENEDX_IP}) & (asked if reads_file else in_process))
        if ignored:
            lines = "; ".join(f'{key} = os.environ.get("{key}", "")' for key in ignored)
            return failed(
                f"the settings do not read {', '.join(ignored)}",
                cause="the project's settings module does not read these names from .env",
                fix=f"add to the settings module: {lines}; then {RESTART}",
            )
        return ok("the settings read what is written in .env")


#: The settings that both MITx Online and MIT xPro read.
_SETTINGS = frozenset(
    {
        Env.OPENEDX_API_BASE_URL,
        Env.OPENEDX_BASE_REDIRECT_URL,
        Env.OPENEDX_API_CLIENT_ID,
        Env.OPENEDX_API_CLIENT_SECRET,
        Env.OPENEDX_SERVICE_WORKER_API_TOKEN,
        Env.OPENEDX_OAUTH_PROVIDER,
        Env.OPENEDX_SOCIAL_LOGIN_PATH,
        Env.LOGOUT_REDIRECT_URL,
    }
)


def _tidy(value: str) -> str:
    return str(value).strip().rstrip("/")
