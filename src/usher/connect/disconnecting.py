"""The steps of ``usher disconnect``: plain LMS sign-in first, then everything as it was before."""

import shutil
from abc import ABC, abstractmethod
from typing import Any

from usher.connect import checks
from usher.connect.application.side import Addresses, Side
from usher.connect.before import Leaving, RestartMark
from usher.connect.errors import ToolFailed
from usher.connect.openedx import configuration
from usher.connect.openedx.embedded import EmbeddedLms
from usher.connect.openedx.lms import Lms
from usher.connect.openedx.platform import Platform
from usher.connect.plan import Plan, Step
from usher.contract.provisioning import Application, Description


class Disconnecting(ABC):
    """Some or all of the applications of one LMS.

    The description that was rendered names what was made in the application and the LMS. It goes
    with the last application, so a copy is kept until the end: a killed run can be finished.
    """

    def __init__(
        self,
        lms: Lms,
        sides: list[Side],
        names: list[str],
        addresses: Addresses,
        *,
        purge: bool,
    ) -> None:
        """names: the applications to disconnect; sides: those of them that are known here."""
        self._lms = lms
        self._sides = sides
        self._names = names
        self._addresses = addresses
        self._purge = purge
        self._running = False
        self._mark = RestartMark(lms.place)
        self._leaving = Leaving(lms.place)
        self._description = _joined(self._leaving.description(), lms.description())
        entries = configuration.with_own_workers(lms.entries())
        self._staying = [entry for entry in entries if entry.get("name") not in names]

    @property
    def last(self) -> bool:
        """Whether no application stays connected, so that the plugin goes as well."""
        return not self._staying

    def keep(self) -> None:
        """Called before the first change."""
        self._leaving.keep(self._description)

    def plan(self, facts: dict[str, str], *, running: bool) -> Plan:
        self._running = running
        return Plan(facts, self._steps()).look()

    def _steps(self) -> list[Step]:
        steps = self._lms_steps()
        for side in self._sides:
            steps += self._application_steps(side)
        return [*steps, self._files_step()]

    @abstractmethod
    def _lms_steps(self) -> list[Step]:
        """The LMS without these applications."""

    @abstractmethod
    def _files_step(self) -> Step:
        """At the end: what was rendered and holds secrets."""

    # -- the LMS

    def _records_step(self) -> Step:
        return Step(
            "lms-records",
            self._lms.lms_url,
            f"take away what was made for {' and '.join(self._names)}",
            "provider record off, OAuth application and token gone; learners' accounts stay",
            self._are_records_gone,
            self._remove_records,
            # What the command says it did: a broken LMS can't be asked any more.
            trust_apply=True,
        )

    def _config_step(self, step: str) -> Step:
        return Step(
            step,
            str(self._lms.config_file),
            "take Usher's settings out" if self._purges else "take the application out",
            "no trace stays" if self._purges else "its secrets stay, to connect again",
            lambda: not self._values(),
            self._configure,
        )

    def _made(self) -> list[Application]:
        return [found for found in self._description.applications if found.name in self._names]

    def _are_records_gone(self) -> bool:
        """Once the plugin or the entry is gone, this came before (the steps have an order)."""
        listed = configuration.read(self._lms.config_file)
        entries = listed.get(configuration.APPLICATIONS, [])
        named = {entry.get("name") for entry in entries} & set(self._names)
        if not self._lms.enabled or not named:
            return True
        connected = checks.connected_names(self._description, self._addresses)
        return connected is not None and not connected & set(self._names)

    def _remove_records(self) -> str:
        leaving = Description(applications=self._made())
        try:
            answer = self._lms.remove(leaving, purge=self._purge)
        except ToolFailed as error:
            if not self.last:
                raise
            return f"left as they are, without effect once the plugin is off; {error}"
        done = [f"{item['what']} {item['name']} {item['outcome']}" for item in answer["items"]]
        return "; ".join(done) or "nothing was there"

    @property
    def _purges(self) -> bool:
        return self._purge and self.last

    def _values(self) -> dict[str, Any]:
        """What of config.yml changes; None for what goes."""
        present = configuration.read(self._lms.config_file)
        if self._purges:
            return {key: None for key in present if key.startswith(configuration.PREFIX)}
        values: dict[str, Any] = dict.fromkeys(configuration.of_applications(present, self._names))
        if present.get(configuration.APPLICATIONS, []) != self._staying:
            values[configuration.APPLICATIONS] = self._staying
        return values

    def _configure(self) -> str:
        configuration.write(self._lms.config_file, self._values())
        self._lms.forget()
        return "written"

    def _is_plain(self) -> bool:
        """No application that goes is still offered by the running LMS."""
        if self._mark.stands:
            return False
        return not any(checks.leads_to(found, self._addresses) for found in self._made())

    # -- the applications

    def _application_steps(self, side: Side) -> list[Step]:
        made = next((found for found in self._made() if found.name == side.name), None)
        written = self._written(side) if made else {}
        steps = [
            Step(
                f"env:{side.name}",
                str(side.checkout.env_file or "its settings"),
                "restore the settings of before",
                "what was changed beside them since stays",
                lambda: side.env_restored(written),
                lambda: side.restore_env(written),
            )
        ]
        if made:
            client_id = made.client_id
            steps.append(
                Step(
                    f"record:{side.name}",
                    f"{side.checkout.title}, OAuth2 application",
                    "take the LMS's record away, or restore the one of before",
                    "the LMS no longer signs in with it",
                    lambda: not side.has_record(client_id),
                    lambda: side.remove_record(client_id),
                    trust_apply=True,
                )
            )
        if side.checkout.compose:
            steps.append(
                Step(
                    f"recreate:{side.name}",
                    f"{side.checkout.title}, containers",
                    "re-create them: docker compose up -d",
                    "a restarted container keeps its old environment",
                    lambda: not side.runs_with_old(written),
                    side.recreate,
                    trust_apply=True,
                )
            )
        steps.append(
            Step(
                f"state:{side.name}",
                str(side.before.folder),
                "forget the copies of before",
                "they are in place again",
                lambda: not side.before.folder.exists(),
                side.before.forget,
            )
        )
        return steps

    def _written(self, side: Side) -> dict[str, str]:
        if self._description.service_worker_of(side.name) is None:
            return {}
        return side.env_values(self._description, self._addresses)


class DisconnectingFromTutor(Disconnecting):
    def __init__(self, platform: Platform, *rest: Any, purge: bool) -> None:
        super().__init__(platform, *rest, purge=purge)
        self._platform = platform

    def _lms_steps(self) -> list[Step]:
        instance = self._platform.instance
        steps = [self._records_step()]
        if self.last:
            steps.append(
                Step(
                    "tutor-plugin",
                    str(instance.root),
                    "disable the plugin usher",
                    "without its patches the LMS signs learners in by itself",
                    lambda: not self._platform.now.enabled,
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
                "settings as Tutor makes them by itself",
                lambda: not self._platform.now.look["stale"],
                self._render,
            ),
            Step(
                "restart",
                instance.lms_url,
                "restart the LMS",
                "settings are read when it starts",
                self._is_plain,
                self._restart,
                trust_apply=True,
            ),
        ]

    def _disable(self) -> str:
        # Tutor renders when a plugin is disabled.
        self._mark.set()
        self._platform.tutor("plugins", "disable", "usher")
        return "disabled"

    def _render(self) -> str:
        self._mark.set()
        self._platform.tutor("config", "save")
        return "rendered"

    def _restart(self) -> str:
        self._platform.restart(running=self._running)
        checks.wait_for_lms(self._addresses)
        self._mark.clear()
        return "up"

    def _files_step(self) -> Step:
        description = self._platform.instance.description_file
        wheels = self._platform.instance.root / "env/build/openedx/usher"

        def remove() -> str:
            if self.last:
                shutil.rmtree(wheels, ignore_errors=True)
                description.unlink(missing_ok=True)
            self._leaving.forget()
            return "removed"

        def is_removed() -> bool:
            rendered = self.last and (description.exists() or wheels.exists())
            return self._leaving.description() is None and not rendered

        return Step(
            "tutor-files",
            str(description.parent),
            "remove what the plugin rendered",
            "it holds secrets; Tutor leaves files of disabled plugins behind",
            is_removed,
            remove,
        )


class DisconnectingFromEmbedded(Disconnecting):
    """The LMS goes on while an application stays. After the last one it is stopped; its folder,
    with learners' accounts, stays unless everything is to go."""

    def __init__(self, embedded: EmbeddedLms, *rest: Any, purge: bool) -> None:
        super().__init__(embedded, *rest, purge=purge)
        self._embedded = embedded

    def _lms_steps(self) -> list[Step]:
        embedded = self._embedded
        if not embedded.is_made:
            return []
        stop = Step(
            "stop",
            embedded.lms_url,
            "stop the embedded LMS",
            "no application is connected to it any more",
            lambda: not embedded.server.runs,
            self._stop,
        )
        start = Step(
            "restart",
            embedded.lms_url,
            "start the embedded LMS again",
            "settings are read when it starts",
            self._is_plain,
            self._restart,
            trust_apply=True,
        )
        render = Step(
            "lms-render",
            str(embedded.place),
            f"write lms.env.yml and {embedded.description_file.name}",
            "the LMS's settings without the application",
            embedded.is_rendered,
            self._render,
        )
        records = [self._records_step(), self._config_step("lms-config")]
        return [*records, *([stop] if self.last else [render, start])]

    def _stop(self) -> str:
        self._embedded.server.stop()
        return "stopped"

    def _render(self) -> str:
        self._mark.set()
        self._embedded.render()
        return "written"

    def _restart(self) -> str:
        self._embedded.restart(running=True)
        checks.wait_for_lms(self._addresses, meanwhile=self._embedded.server.check)
        self._mark.clear()
        return "up"

    def _files_step(self) -> Step:
        embedded = self._embedded

        def remove() -> str:
            if self.last:
                embedded.clear(purge=self._purge)
            self._leaving.forget()
            return "removed"

        def is_removed() -> bool:
            left = embedded.place if self._purge else embedded.description_file
            return self._leaving.description() is None and not (self.last and left.exists())

        return Step(
            "lms-files",
            str(embedded.place if self._purge else embedded.description_file),
            "remove the LMS, with its learners" if self._purge else "remove the description",
            "no trace stays" if self._purge else "it holds secrets",
            is_removed,
            remove,
        )


def disconnecting_of(lms: Platform | EmbeddedLms, *rest: Any, purge: bool) -> Disconnecting:
    """For what runs this LMS; the arguments of Disconnecting."""
    if isinstance(lms, EmbeddedLms):
        return DisconnectingFromEmbedded(lms, *rest, purge=purge)
    return DisconnectingFromTutor(lms, *rest, purge=purge)


def _joined(kept: Description | None, rendered: Description | None) -> Description:
    """All applications that either names, as they were kept."""
    found = {
        application.name: application
        for description in (rendered, kept)
        if description
        for application in description.with_own_workers()
    }
    return Description(list(found.values()))
