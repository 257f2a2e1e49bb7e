"""The application's ``.env``."""

import re
import shlex
import stat
from collections.abc import Mapping

from usher.contract.environment import ALL_KEYS, SECRET_KEYS, Env
from usher.contract.fingerprints import configuration_fingerprints
from usher.contract.secret_values import MIN_SECRET_LENGTH, is_secret
from usher.doctor.check import Check, Finding, check, failed, ok, warning
from usher.doctor.context import Context
from usher.doctor.facts.commands import CodeError
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
        all_problems = context.application.env.problems()
        # Problems that are not serious concern only `docker run`, which never reads the file that
        # `usher dev` writes.
        checked_keys = () if context.dev_home else ALL_KEYS
        problems = [
            problem for problem in all_problems if problem.serious or problem.key in checked_keys
        ]
        path = context.application.env_file
        serious = [problem for problem in problems if problem.serious]
        if not problems:
            return ok(f"{path} is read the same way by all programs")
        first = (serious or problems)[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        make_finding = failed if serious else warning
        return make_finding(
            f"{path}, {first}{more}",
            cause="programs that read this file interpret that line differently, or ignore it",
            fix=f"correct line {first.line} of {path}",
        )


@check
class EnvFileIsPrivate(Check):
    """Only its owner can read the .env.

    Symptom: secrets are exposed.
    Cause: other users of the machine can read `.env`, or git tracks it.
    Fix: run `chmod 600`, and remove the file from git; replace every secret that was published.
    """

    id = "ENV-2"

    def probe(self, context: Context) -> Finding:
        path = context.application.env_file
        values = context.application.env.values()
        assert path is not None  # noqa: S101 - env raised otherwise
        quoted_path = shlex.quote(str(path))
        if not any(value and is_secret(name, value) for name, value in values.items()):
            return ok(f"{path} has no secrets")
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            return failed(
                f"{path} has mode {mode:04o}",
                cause="other users of this machine can read the secrets in it",
                fix=f"chmod 600 {quoted_path}",
                repair="restrict-env",
            )
        if context.application.tracked_by_git:
            return failed(
                f"{path} is tracked by git",
                cause="everybody who can read the repository can read the secrets in it",
                fix=f"git rm --cached {quoted_path} && echo .env >> .gitignore, then make new "
                "secrets",
            )
        return ok(f"{path} has mode {mode:04o} and is not in git")


@check
class EnvFileIsInUse(Check):
    """The application has the values of its .env.

    Symptom: `.env` was changed without effect.
    Cause: the server was not restarted, or its containers were restarted instead of re-created.
    Fix: restart the server; with containers, `docker compose up -d` re-creates those whose settings
        changed.
    """

    id = "ENV-3"
    depends_on = ("ENV-1", "ENV-4")

    def probe(self, context: Context) -> Finding:
        application = context.application
        values = {key: value for key, value in application.env.values().items() if key in ALL_KEYS}
        if application.running_fingerprints:
            process = "the running application"
            stale = self._stale_in_process(values, application.running_fingerprints)
            cause = "it was started with an older .env"
        else:
            process = "manage.py"
            stale = self._stale_in_settings(values, application.report.get("settings", {}))
            cause = "the settings take these values from another source, such as the environment"
        if stale:
            return failed(
                f"{process} has other values than .env: {', '.join(stale)}",
                cause=cause,
                fix=RESTART,
            )
        return ok(f"{process} has the values of .env")

    def _stale_in_process(
        self, values: dict[str, str], running_fingerprints: Mapping[str, str]
    ) -> list[str]:
        """The keys in the ``.env`` whose values the running process does not have."""
        token = values.get(Env.OPENEDX_SERVICE_WORKER_API_TOKEN, "")
        file_fingerprints = configuration_fingerprints(values, token)
        stale = [
            key
            for key, fingerprint in file_fingerprints.items()
            if running_fingerprints.get(key) != fingerprint
        ]
        # Every fingerprint is made with the service worker's token. If all fingerprints differ,
        # the reason is that the tokens differ.
        if stale and len(stale) == len(file_fingerprints):
            return [Env.OPENEDX_SERVICE_WORKER_API_TOKEN]
        return stale

    def _stale_in_settings(self, values: dict[str, str], settings: Mapping[str, str]) -> list[str]:
        """The keys in the ``.env`` whose values the reported settings do not have. Leaves out keys
        that are not reported, such as secrets."""
        reported_keys = [key for key in values if key in settings]
        return [
            key for key in reported_keys if _normalized(settings[key]) != _normalized(values[key])
        ]


@check
class SettingsReadTheEnvFile(Check):
    """The application's settings read the names in its .env.

    Symptom: settings that `usher connect` wrote in `.env` are ignored.
    Cause: the project's settings do not read these names from the environment.
    Fix: add the lines that the finding names, or `defaults.apply(globals())`, to the settings.
    """

    id = "ENV-4"
    depends_on = ("ENV-1",)

    def probe(self, context: Context) -> Finding:
        report = context.application.report
        if "read" not in report or "environment" not in report:
            raise NotKnownError("the application does not report which settings it reads")
        file_keys = {key for key, value in context.application.env.values().items() if value}
        expected_keys = set(ALL_KEYS) if report.get("usher") else _CONNECTION_SETTINGS
        keys = file_keys & expected_keys
        environment_keys, read_keys = set(report["environment"]), set(report["read"])
        # A key that is read, but is not in the environment, shows that the settings read the file.
        reads_file = bool((keys - environment_keys) & read_keys)
        readable_keys = keys if reads_file else keys & environment_keys
        # The compose file reads OPENEDX_IP; the settings do not.
        ignored = sorted(readable_keys - read_keys - {Env.OPENEDX_IP})
        if ignored:
            lines = "; ".join(f'{key} = os.environ.get("{key}", "")' for key in ignored)
            return failed(
                f"the settings do not read {', '.join(ignored)}",
                cause="the project's settings module does not read these names from .env",
                fix=f"add to the settings module: {lines}; then {RESTART}",
            )
        return ok("the settings read what is written in .env")


@check
class ProjectCodeWorks(Check):
    """The application's settings and code can be loaded, and its database answers.

    Symptom: every command of `manage.py` ends with a traceback, and the server does not start.
    Cause: an error in the settings or in another file of the project, a missing environment
    variable, or a database that does not answer.
    Fix: correct the line that the finding names, or start the database.
    """

    id = "ENV-5"

    def probe(self, context: Context) -> Finding:
        try:
            _ = context.application.report  # runs manage.py
        except CodeError as error:
            if _DATABASE_UNREACHABLE.search(error.error):
                return failed(
                    f"the application's database can't be used: {error.error}",
                    cause="the database is down, or DATABASES in the settings is wrong",
                    fix="start the database, or correct DATABASES; then run `usher doctor` again",
                )
            if _DATABASE_ERROR.search(error.error):
                raise  # skips this check: the database answered, with an error
            return failed(
                f"the application's manage.py can't be run: {error.error}",
                cause="an error in the settings or the code of the application, or a variable that "
                "is missing in its environment",
                fix="correct this error, then run `usher doctor` again",
            )
        return ok("manage.py runs")


@check
class SecretsAreLong(Check):
    """The secrets in the .env are long enough.

    Symptom: a secret is shown in a message or a log.
    Cause: a secret has fewer than 8 characters. Such a secret can be guessed, and Usher can't
    hide it everywhere, because other words may contain it.
    Fix: replace it by a long random value, in the LMS too; `usher connect` makes long ones.
    """

    id = "ENV-6"
    depends_on = ("ENV-1",)

    def probe(self, context: Context) -> Finding:
        values = context.application.env.values()
        short_keys = sorted(
            key
            for key in SECRET_KEYS - {"DATABASE_URL"}
            if 0 < len(values.get(key, "").strip()) < MIN_SECRET_LENGTH
        )
        if short_keys:
            return warning(
                f"fewer than {MIN_SECRET_LENGTH} characters: {', '.join(short_keys)}",
                cause="such a secret can be guessed, and messages may show it",
                fix="replace it by a long random value, such as the output of "
                "`openssl rand -hex 32`, in the LMS too",
            )
        return ok(f"no secret has fewer than {MIN_SECRET_LENGTH} characters")


#: The error if the database's server does not answer, or refuses the connection. Other errors are
#: also OperationalError, such as that of SQLite for a missing table.
_DATABASE_UNREACHABLE = re.compile(r"\bOperationalError: .*(connect|server|authentication|role )")
_DATABASE_ERROR = re.compile(r"\b(Operational|Database|Programming|Interface)Error: ")


#: The settings that both MITx Online and MIT xPro read.
_CONNECTION_SETTINGS = frozenset(
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


def _normalized(value: str) -> str:
    """The value as it is compared: an application may add or remove a slash at the end."""
    return str(value).strip().rstrip("/")
