"""The steps of ``usher disconnect``.

They restore the LMS's own sign-in first, then the application's record, settings and containers.
"""

import shutil
from abc import ABC, abstractmethod
from typing import Any

from usher.connect import checks
from usher.connect.application.target import Addresses, TargetApplication
from usher.connect.errors import ToolFailed
from usher.connect.openedx import configuration
from usher.connect.openedx.embedded import EmbeddedLms
from usher.connect.openedx.lms import Lms
from usher.connect.openedx.platform import Platform
from usher.connect.plan import Plan, Step
from usher.connect.saved_state import RestartMark, SavedDescription
from usher.contract.provisioning import Application, Description


class Disconnection(ABC):
    """Plans the disconnection of some or all applications of one LMS.

    The rendered description names the records that were created in the applications and the LMS.
    A copy of the description is kept until the end, because the description itself is deleted with
    the last application. So another run can complete an interrupted one.
    """

    def __init__(
        self,
        lms: Lms,
        targets: list[TargetApplication],
        names: list[str],
        addresses: Addresses,
        *,
        purge: bool,
    ) -> None:
        """names: of all applications to disconnect; targets: those that can be reached."""
        self._lms = lms
        self._targets = targets
        self._names = names
        self._addresses = addresses
        self._purge = purge
        self._running = False
        self._restart_mark = RestartMark(lms.folder)
        self._saved_description = SavedDescription(lms.folder)
        self._description = _merge(self._saved_description.description(), lms.description())
        entries = configuration.entries_with_workers(lms.entries())
        self._remaining_entries = [entry for entry in entries if entry.get("name") not in names]

    @property
    def is_last(self) -> bool:
        """Whether no other application stays connected; the plugin is then disabled as well."""
        return not self._remaining_entries

    def save_description(self) -> None:
        """Saves a copy of the description. Must be called before the first change."""
        self._saved_description.save(self._description)

    def plan(self, facts: dict[str, str], *, running: bool) -> Plan:
        self._running = running
        return Plan(facts, self._steps()).find_due()

    def _steps(self) -> list[Step]:
        steps = self._lms_steps()
        for target in self._targets:
            steps += self._application_steps(target)
        return [*steps, self._files_step()]

    @abstractmethod
    def _lms_steps(self) -> list[Step]:
        """Returns the steps that remove these applications from the LMS."""

    @abstractmethod
    def _files_step(self) -> Step:
        """Returns the last step, which deletes rendered files that hold secrets."""

    # -- the LMS

    def _records_step(self) -> Step:
        return Step(
            "lms-records",
            self._lms.lms_url,
            f"remove the records that were created for {' and '.join(self._names)}",
            "the provider record is disabled, OAuth client and token are deleted; accounts stay",
            self._are_records_gone,
            self._remove_records,
            # The command reports what it did; an LMS that is broken can't be examined afterwards.
            trust_apply=True,
        )

    def _config_step(self, step_id: str) -> Step:
        return Step(
            step_id,
            str(self._lms.config_file),
            "remove Usher's settings" if self._purges_settings else "remove the application",
            "--purge was given"
            if self._purges_settings
            else "it is disconnected; its secrets stay, for connecting it again",
            lambda: not self._config_changes(),
            self._configure,
        )

    def _applications_to_remove(self) -> list[Application]:
        return [
            application
            for application in self._description.applications
            if application.name in self._names
        ]

    def _are_records_gone(self) -> bool:
        """Whether the records are removed.

        Records are removed before the plugin and the entry. So if the plugin or the entry is gone,
        the records are gone, too.
        """
        config = configuration.read(self._lms.config_file)
        entries = config.get(configuration.APPLICATIONS, [])
        remaining = {entry.get("name") for entry in entries} & set(self._names)
        if not self._lms.enabled or not remaining:
            return True
        connected = checks.connected_names(self._description, self._addresses)
        return connected is not None and not connected & set(self._names)

    def _remove_records(self) -> str:
        records = Description(applications=self._applications_to_remove())
        try:
            answer = self._lms.remove(records, purge=self._purge)
        except ToolFailed as error:
            if not self.is_last:
                raise
            return f"not removed; without effect once the plugin is disabled; {error}"
        outcomes = [f"{item['what']} {item['name']} {item['outcome']}" for item in answer["items"]]
        return "; ".join(outcomes) or "there were none"

    @property
    def _purges_settings(self) -> bool:
        """Whether all of Usher's settings are removed: with ``purge``, but not while another
        application stays connected."""
        return self._purge and self.is_last

    def _config_changes(self) -> dict[str, Any]:
        """Returns the keys of config.yml to change and their new values; None removes a key."""
        present = configuration.read(self._lms.config_file)
        if self._purges_settings:
            return {key: None for key in present if key.startswith(configuration.PREFIX)}
        values: dict[str, Any] = dict.fromkeys(
            configuration.keys_of_applications(present, self._names)
        )
        if present.get(configuration.APPLICATIONS, []) != self._remaining_entries:
            values[configuration.APPLICATIONS] = self._remaining_entries
        return values

    def _configure(self) -> str:
        configuration.write(self._lms.config_file, self._config_changes())
        self._lms.clear_cache()
        return "written"

    def _offers_no_sign_in(self) -> bool:
        """Whether the running LMS no longer offers sign-in through these applications."""
        if self._restart_mark.is_set:
            return False
        return not any(
            checks.leads_to(application, self._addresses)
            for application in self._applications_to_remove()
        )

    # -- the applications

    def _application_steps(self, target: TargetApplication) -> list[Step]:
        application = next(
            (
                candidate
                for candidate in self._applications_to_remove()
                if candidate.name == target.name
            ),
            None,
        )
        env_values = self._env_values(target) if application else {}
        steps = [
            Step(
                f"env:{target.name}",
                str(target.checkout.env_file or "the application's settings"),
                "restore the earlier values of the application's settings",
                "the LMS no longer accepts these ids and secrets; other lines stay as they are",
                lambda: target.is_env_restored(env_values),
                lambda: target.restore_env(env_values),
            )
        ]
        if application:
            client_id = application.client_id
            steps.append(
                Step(
                    f"record:{target.name}",
                    f"{target.checkout.title}, OAuth2 application",
                    "remove the LMS's OAuth2 record, or restore the earlier one",
                    "the LMS no longer signs in with it",
                    lambda: not target.has_record(client_id),
                    lambda: target.remove_record(client_id),
                    trust_apply=True,
                )
            )
        if target.checkout.compose:
            steps.append(
                Step(
                    f"recreate:{target.name}",
                    f"{target.checkout.title}, containers",
                    "re-create the containers: docker compose up -d",
                    "a restarted container keeps its old environment",
                    lambda: not target.runs_with_old(env_values),
                    target.recreate,
                    trust_apply=True,
                )
            )
        steps.append(
            Step(
                f"state:{target.name}",
                str(target.saved_state.folder),
                "delete the saved copies of record and .env",
                "the record and the .env are restored by the steps before",
                lambda: not target.saved_state.folder.exists(),
                target.saved_state.delete,
            )
        )
        return steps

    def _env_values(self, target: TargetApplication) -> dict[str, str]:
        if self._description.service_worker_of(target.name) is None:
            return {}
        return target.env_values(self._description, self._addresses)

    def remaining(self) -> list[str]:
        """Returns sentences for people about data that is not removed."""
        sentences = []
        for target in self._targets:
            env = target.checkout.env_file
            if env is not None and env.exists():
                sentences.append(f"{target.checkout.title}: {env}, with your own settings")
            sentences.append(
                f"{target.checkout.title}: its records of LMS accounts, tokens and enrollments; "
                "the tokens no longer work"
            )
        sentences.append("LMS: accounts, enrollments and progress of the learners")
        if not self._purge:
            sentences.append(
                "LMS: the provider record, switched off, and ids and secrets in its configuration, "
                "for connecting again; usher disconnect --purge deletes them"
            )
        return sentences


class DisconnectionFromTutor(Disconnection):
    def __init__(self, platform: Platform, *arguments: Any, purge: bool) -> None:
        super().__init__(platform, *arguments, purge=purge)
        self._platform = platform

    def _lms_steps(self) -> list[Step]:
        instance = self._platform.instance
        steps = [self._records_step()]
        if self.is_last:
            steps.append(
                Step(
                    "tutor-plugin",
                    str(instance.root),
                    "disable the plugin usher",
                    "without its patches the LMS uses its own sign-in",
                    lambda: not self._platform.current_instance.enabled,
                    self._disable,
                )
            )
        return [
            *steps,
            self._config_step("tutor-config"),
            Step(
                "tutor-render",
                str(instance.root / "env"),
                "render Tutor's environment",
                "restores the settings that Tutor renders without the plugin",
                lambda: not self._platform.current_instance.report["stale"],
                self._render,
            ),
            Step(
                "restart",
                instance.lms_url,
                "restart the LMS",
                "the LMS reads settings when it starts",
                self._offers_no_sign_in,
                self._restart,
                trust_apply=True,
            ),
        ]

    def _disable(self) -> str:
        # Tutor renders when a plugin is disabled.
        self._restart_mark.set()
        self._platform.run_tutor("plugins", "disable", "usher")
        return "disabled"

    def _render(self) -> str:
        self._restart_mark.set()
        self._platform.run_tutor("config", "save")
        return "rendered"

    def _restart(self) -> str:
        self._platform.restart(running=self._running)
        checks.wait_for_lms(self._addresses)
        self._restart_mark.clear()
        return "up"

    def _files_step(self) -> Step:
        description = self._platform.instance.description_file
        wheels = self._platform.instance.root / "env/build/openedx/usher"

        def remove() -> str:
            if self.is_last:
                shutil.rmtree(wheels, ignore_errors=True)
                description.unlink(missing_ok=True)
            self._saved_description.delete()
            return "removed"

        def is_removed() -> bool:
            rendered = self.is_last and (description.exists() or wheels.exists())
            return self._saved_description.description() is None and not rendered

        return Step(
            "tutor-files",
            str(description.parent),
            "delete the file that the plugin rendered",
            "it holds secrets, and Tutor keeps files of disabled plugins",
            is_removed,
            remove,
        )


class DisconnectionFromEmbedded(Disconnection):
    """Plans the disconnection from an embedded LMS.

    The LMS keeps running while another application is connected to it, and is stopped after the
    last. Its folder, with the learners' accounts, is deleted only with ``purge``.
    """

    def __init__(self, embedded: EmbeddedLms, *arguments: Any, purge: bool) -> None:
        super().__init__(embedded, *arguments, purge=purge)
        self._embedded = embedded

    def remaining(self) -> list[str]:
        if self.is_last and self._purge:
            return [text for text in super().remaining() if not text.startswith("LMS: ")]
        folder = [f"LMS: its folder {self._embedded.folder}"] if self.is_last else []
        return super().remaining() + folder

    def _lms_steps(self) -> list[Step]:
        embedded = self._embedded
        if not embedded.exists:
            return []
        update = Step(
            "lms-folder",
            str(embedded.folder),
            "update the embedded LMS and its database",
            "another version or installation of Usher created it",
            lambda: embedded.is_current,
            self._update,
        )
        stop = Step(
            "stop",
            embedded.lms_url,
            "stop the embedded LMS",
            "no application is connected to it any more",
            lambda: not embedded.server.is_running,
            self._stop,
        )
        start = Step(
            "restart",
            embedded.lms_url,
            "start the embedded LMS again",
            "the LMS reads settings when it starts",
            self._offers_no_sign_in,
            self._restart,
            trust_apply=True,
        )
        render = Step(
            "lms-render",
            str(embedded.folder),
            f"write lms.env.yml and {embedded.description_file.name}",
            "the LMS's settings without the application",
            embedded.is_rendered,
            self._render,
        )
        records = [self._records_step(), self._config_step("lms-config")]
        return [update, *records, *([stop] if self.is_last else [render, start])]

    def _update(self) -> str:
        self._embedded.make()
        return "updated"

    def _stop(self) -> str:
        self._embedded.server.stop()
        return "stopped"

    def _render(self) -> str:
        self._restart_mark.set()
        self._embedded.render()
        return "written"

    def _restart(self) -> str:
        self._embedded.restart(running=True)
        checks.wait_for_lms(self._addresses, meanwhile=self._embedded.server.check)
        self._restart_mark.clear()
        return "up"

    def _files_step(self) -> Step:
        embedded = self._embedded

        def remove() -> str:
            if self.is_last:
                embedded.clear(purge=self._purge)
            self._saved_description.delete()
            return "removed"

        def is_removed() -> bool:
            path = embedded.folder if self._purge else embedded.description_file
            return self._saved_description.description() is None and not (
                self.is_last and path.exists()
            )

        return Step(
            "lms-files",
            str(embedded.folder if self._purge else embedded.description_file),
            "delete the LMS, with its learners" if self._purge else "delete the description",
            "--purge was given" if self._purge else "it holds secrets",
            is_removed,
            remove,
        )


def disconnection_for(lms: Platform | EmbeddedLms, *arguments: Any, purge: bool) -> Disconnection:
    """Returns the subclass for this kind of LMS. arguments: all arguments of
    ``Disconnection`` after ``lms``."""
    if isinstance(lms, EmbeddedLms):
        return DisconnectionFromEmbedded(lms, *arguments, purge=purge)
    return DisconnectionFromTutor(lms, *arguments, purge=purge)


def _merge(saved: Description | None, rendered: Description | None) -> Description:
    """Returns a description with the applications of both descriptions. Of an application in both,
    the saved entry is used."""
    by_name = {
        application.name: application
        for description in (rendered, saved)
        if description
        for application in description.applications_with_workers()
    }
    return Description(list(by_name.values()))
