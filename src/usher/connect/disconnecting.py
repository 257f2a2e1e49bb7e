"""The steps of ``usher disconnect``.

They restore the LMS's own sign-in first, then the application's record, settings and containers.
"""

import shutil
from abc import ABC, abstractmethod
from typing import Any

from usher.connect import checks
from usher.connect.application.target import Addresses, TargetApplication
from usher.connect.discovery import purge_command
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

    The rendered description names the records that connect created in the applications and the LMS.
    A copy of the description is kept until the end, because the description itself is deleted with
    the last application. So an interrupted disconnection can be completed by running the
    command again.
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
        """names: of all applications to disconnect, none to purge an embedded LMS that an earlier
        disconnection kept; targets: those that can be reached."""
        self._lms = lms
        self._targets = targets
        self._names = names
        self._addresses = addresses
        self._purge = purge
        #: Whether the LMS runs; ``plan`` sets it.
        self._running = False
        self._restart_mark = RestartMark(lms.folder)
        self._saved_description = SavedDescription(lms.folder)
        #: Of an interrupted disconnection and of the present connections.
        self._description = _merge(self._saved_description.description(), lms.description())
        present_entries = configuration.entries_with_workers(lms.application_entries())
        self._remaining_entries = [
            entry for entry in present_entries if entry.get("name") not in names
        ]

    @property
    def leaves_no_application(self) -> bool:
        """Whether no other application stays connected to the LMS; the plugin is then disabled as
        well."""
        return not self._remaining_entries

    def save_description(self) -> None:
        """Saves a copy of the description of the LMS's and the applications' records, from which
        an interrupted disconnection continues. Must be called before the first change, because the
        original is deleted with the last application."""
        self._saved_description.save(self._description)

    def plan(self, facts: dict[str, str], *, running: bool) -> Plan:
        """Returns the plan; changes nothing. running: whether the LMS runs."""
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
        reason = (
            "--purge was given: the provider record, OAuth client, token and the accounts that "
            "were created for services are deleted; learners' accounts stay"
            if self._purge
            else "the provider record is disabled, OAuth client and token are deleted; accounts "
            "stay"
        )
        return Step(
            id="lms-records",
            where=self._lms.lms_url,
            what=f"remove the records that were created for {' and '.join(self._names)}",
            reason=reason,
            is_done=self._are_records_gone,
            apply=self._remove_records,
            # The command reports what it did; an LMS that is broken can't be examined afterwards.
            trust_apply=True,
        )

    def _config_step(self, step_id: str) -> Step:
        return Step(
            id=step_id,
            where=str(self._lms.config_file),
            what="remove Usher's settings" if self._purges_settings else "remove the application",
            reason="--purge was given"
            if self._purges_settings
            else "it is disconnected; its secrets stay, for connecting it again",
            is_done=lambda: not self._config_changes(),
            apply=self._configure,
        )

    def _applications_to_remove(self) -> list[Application]:
        return [
            application
            for application in self._description.applications
            if application.name in self._names
        ]

    def _are_records_gone(self) -> bool:
        """Whether the LMS's records of the applications are removed.

        They are removed before the plugin, and before the applications' entries in Tutor's
        configuration. So without the plugin or these entries, the records are gone, too.
        """
        config = configuration.read(self._lms.config_file)
        configured_names = {
            entry.get("name") for entry in config.get(configuration.APPLICATIONS, [])
        }
        if not self._lms.is_plugin_enabled or configured_names.isdisjoint(self._names):
            return True
        connected_names = checks.connected_names(self._description, self._addresses)
        # None: the LMS gave no report, so it is not known.
        return connected_names is not None and connected_names.isdisjoint(self._names)

    def _remove_records(self) -> str:
        """Removes the LMS's records. If no application stays connected, a failure isn't an error,
        because records have no effect without the plugin, or while the embedded LMS is stopped."""
        records = Description(applications=self._applications_to_remove())
        try:
            answer = self._lms.remove(records, purge=self._purge)
        except ToolFailed as error:
            if not self.leaves_no_application:
                raise
            return f"not removed; without effect after this disconnection; {error}"
        outcomes = [f"{item['what']} {item['name']} {item['outcome']}" for item in answer["items"]]
        return "; ".join(outcomes) or "there were none"

    @property
    def _purges_settings(self) -> bool:
        """Whether all of Usher's settings are removed: with ``purge``, but not while another
        application stays connected."""
        return self._purge and self.leaves_no_application

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
        if self._restart_mark.is_set:  # it runs with earlier settings, whatever it answers
            return False
        return not any(
            checks.lms_leads_to(application, self._addresses)
            for application in self._applications_to_remove()
        )

    # -- the applications

    def _application_steps(self, target: TargetApplication) -> list[Step]:
        """Returns the steps that restore this application. Its record is left alone if the
        description does not name the application, because the client id is then unknown."""
        applications = {each.name: each for each in self._applications_to_remove()}
        application = applications.get(target.name)
        env_values = self._env_values(target) if application else {}
        steps = [
            Step(
                id=f"env:{target.name}",
                where=str(target.checkout.env_file or "the application's settings"),
                what="restore the earlier values of the application's settings",
                reason=(
                    "the LMS no longer accepts these ids and secrets; other lines stay as they are"
                ),
                is_done=lambda: target.is_env_restored(env_values),
                apply=lambda: target.restore_env(env_values),
                file=target.checkout.env_file,
            )
        ]
        if application:
            client_id = application.client_id
            steps.append(
                Step(
                    id=f"record:{target.name}",
                    where=f"{target.checkout.title}, OAuth client",
                    what="remove the LMS's OAuth client, or restore the earlier one",
                    reason="the LMS no longer signs learners in with it",
                    is_done=lambda: not target.has_record(application),
                    apply=lambda: target.remove_record(client_id),
                    trust_apply=True,
                )
            )
        if target.checkout.compose:
            steps.append(
                Step(
                    id=f"recreate:{target.name}",
                    where=f"{target.checkout.title}, containers",
                    what="re-create the containers: docker compose up -d",
                    reason="a restarted container keeps its old environment",
                    is_done=lambda: not target.runs_with_removed_values(env_values),
                    apply=target.recreate,
                    trust_apply=True,
                )
            )
        steps.append(
            Step(
                id=f"state:{target.name}",
                where=str(target.saved_state.folder),
                what="delete the saved copies of record and .env",
                reason="the record and the .env are restored by the steps before",
                is_done=lambda: not target.saved_state.folder.exists(),
                apply=target.saved_state.delete,
            )
        )
        return steps

    def _env_values(self, target: TargetApplication) -> dict[str, str]:
        """Returns the settings that connect wrote into the ``.env``; {} if they are unknown because
        the LMS's description has no service worker for the application."""
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
                f"for connecting again; {self._purge_advice}"
            )
        return sentences

    @property
    def _purge_advice(self) -> str:
        """How to delete what stays without ``--purge``."""
        return "to delete them, connect again, then run `usher disconnect --purge`"


class DisconnectionFromTutor(Disconnection):
    """Plans the disconnection from an LMS run by Tutor. After the last application, the plugin is
    disabled as well, and the LMS uses its own sign-in again."""

    def __init__(self, platform: Platform, *arguments: Any, purge: bool) -> None:
        super().__init__(platform, *arguments, purge=purge)
        self._platform = platform

    def _lms_steps(self) -> list[Step]:
        instance = self._platform.instance
        steps = [self._records_step()]
        if self.leaves_no_application:
            steps.append(
                Step(
                    id="tutor-plugin",
                    where=str(instance.root),
                    what="disable the plugin usher",
                    reason="without its patches the LMS uses its own sign-in",
                    is_done=lambda: not self._platform.current_instance.is_plugin_enabled,
                    apply=self._disable,
                )
            )
        return [
            *steps,
            self._config_step("tutor-config"),
            Step(
                id="tutor-render",
                where=str(instance.root / "env"),
                what="render Tutor's environment",
                reason="restores the settings that Tutor renders without the plugin",
                is_done=lambda: not self._platform.current_instance.report["stale"],
                apply=self._render,
            ),
            Step(
                id="restart",
                where=instance.lms_url,
                what="restart the LMS",
                reason="the LMS reads settings when it starts",
                is_done=self._offers_no_sign_in,
                apply=self._restart,
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
        # The wheels of Usher from which the plugin had the LMS's image built.
        wheels = self._platform.instance.root / "env/build/openedx/usher"

        def remove() -> str:
            if self.leaves_no_application:
                shutil.rmtree(wheels, ignore_errors=True)
                description.unlink(missing_ok=True)
            self._saved_description.delete()
            return "removed"

        def is_removed() -> bool:
            if self.leaves_no_application and (description.exists() or wheels.exists()):
                return False
            return self._saved_description.description() is None

        return Step(
            id="tutor-files",
            where=str(description.parent),
            what="delete the file that the plugin rendered",
            reason="it holds secrets, and Tutor keeps files of disabled plugins",
            is_done=is_removed,
            apply=remove,
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
        if self.leaves_no_application and self._purge:
            # Nothing of the LMS remains: its whole folder is deleted.
            return [text for text in super().remaining() if not text.startswith("LMS: ")]
        folder = [f"LMS: its folder {self._embedded.folder}"] if self.leaves_no_application else []
        return super().remaining() + folder

    @property
    def _purge_advice(self) -> str:
        if self.leaves_no_application:
            return f"{purge_command(self._embedded.folder)} deletes them"
        return super()._purge_advice

    def _lms_steps(self) -> list[Step]:
        embedded = self._embedded
        if not embedded.exists:  # its folder was deleted, with all records
            return []
        update = Step(
            id="lms-folder",
            where=str(embedded.folder),
            what="update the embedded LMS and its database",
            reason="another version or installation of Usher created it",
            is_done=lambda: embedded.is_current,
            apply=self._update,
        )
        stop = Step(
            id="stop",
            where=embedded.lms_url,
            what="stop the embedded LMS",
            reason="no application is connected to it any more",
            is_done=lambda: not embedded.server.is_running,
            apply=self._stop,
        )
        start = Step(
            id="restart",
            where=embedded.lms_url,
            what="start the embedded LMS again",
            reason="the LMS reads settings when it starts",
            is_done=self._offers_no_sign_in,
            apply=self._restart,
            trust_apply=True,
        )
        render = Step(
            id="lms-render",
            where=str(embedded.folder),
            what=f"write lms.env.yml and {embedded.description_file.name}",
            reason="the LMS's settings without the application",
            is_done=embedded.is_rendered,
            apply=self._render,
        )
        if not self._names:  # an earlier disconnection kept the LMS; it is now deleted
            return [stop]
        records = [self._records_step(), self._config_step("lms-config")]
        return [update, *records, *([stop] if self.leaves_no_application else [render, start])]

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
        place = embedded.folder if self._purge else embedded.description_file

        def remove() -> str:
            if self.leaves_no_application:
                embedded.clear(purge=self._purge)
            self._saved_description.delete()
            return "removed"

        def is_removed() -> bool:
            if self.leaves_no_application and place.exists():
                return False
            return self._saved_description.description() is None

        return Step(
            id="lms-files",
            where=str(place),
            what="delete the LMS, with its learners" if self._purge else "delete the description",
            reason="--purge was given" if self._purge else "it holds secrets",
            is_done=is_removed,
            apply=remove,
        )


def disconnection_for(lms: Platform | EmbeddedLms, *arguments: Any, purge: bool) -> Disconnection:
    """Returns the disconnection from this LMS, an instance of the subclass for this kind of LMS.
    arguments: all positional arguments of ``Disconnection`` after ``lms``."""
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
        for application in description.applications_with_service_workers()
    }
    return Description(list(by_name.values()))
