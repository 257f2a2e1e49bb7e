"""The steps of ``usher disconnect``: plain LMS sign-in first, then everything as it was before."""

import shutil
from typing import Any

from usher.connect import checks
from usher.connect.application.side import Addresses, Side
from usher.connect.before import Leaving, RestartMark
from usher.connect.errors import ToolFailed
from usher.connect.openedx import configuration
from usher.connect.openedx.platform import Platform
from usher.connect.plan import Plan, Step
from usher.contract.provisioning import Application, Description


class Disconnecting:
    """Some or all of the applications of one platform.

    The description that Tutor rendered names what was made in the application and the LMS. Tutor
    deletes it with the plugin, so a copy is kept until the end: a killed run can be finished.
    """

    def __init__(
        self,
        platform: Platform,
        sides: list[Side],
        names: list[str],
        addresses: Addresses,
        *,
        purge: bool,
    ) -> None:
        """names: the applications to disconnect; sides: those of them that are known here."""
        self._platform = platform
        self._sides = sides
        self._names = names
        self._addresses = addresses
        self._purge = purge
        self._running = False
        self._mark = RestartMark(platform.instance.root)
        self._leaving = Leaving(platform.instance.root)
        self._description = _joined(self._leaving.description(), platform.description())
        entries = configuration.with_own_workers(
            configuration.entries(platform.instance.config_file, platform.now.look)
        )
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
        instance = self._platform.instance
        steps = [
            Step(
                "lms-records",
                instance.lms_url,
                f"take away what was made for {' and '.join(self._names)}",
                "provider record off, OAuth application and token gone; learners' accounts stay",
                self._are_records_gone,
                self._remove_records,
                # What the command says it did: a broken LMS can't be asked any more.
                trust_apply=True,
            )
        ]
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
        steps += [
            Step(
                "tutor-config",
                str(instance.config_file),
                "take Usher's settings out" if self._purges else "take the application out",
                "no trace stays" if self._purges else "its secrets stay, to connect again",
                lambda: not self._values(),
                self._configure,
            ),
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
        for side in self._sides:
            steps += self._application_steps(side)
        return [*steps, self._files_step()]

    # -- the LMS and Tutor

    def _made(self) -> list[Application]:
        return [found for found in self._description.applications if found.name in self._names]

    def _are_records_gone(self) -> bool:
        """Once the plugin or the entry is gone, this came before (the steps have an order)."""
        listed = configuration.read(self._platform.instance.config_file)
        entries = listed.get(configuration.APPLICATIONS, [])
        named = {entry.get("name") for entry in entries} & set(self._names)
        if not self._platform.now.enabled or not named:
            return True
        connected = checks.connected_names(self._description, self._addresses)
        return connected is not None and not connected & set(self._names)

    def _remove_records(self) -> str:
        leaving = Description(applications=self._made())
        try:
            answer = self._platform.remove(leaving, purge=self._purge)
        except ToolFailed as error:
            if not self.last:
                raise
            return f"left as they are, without effect once the plugin is off; {error}"
        done = [f"{item['what']} {item['name']} {item['outcome']}" for item in answer["items"]]
        return "; ".join(done) or "nothing was there"

    def _disable(self) -> str:
        # Tutor renders when a plugin is disabled.
        self._mark.set()
        self._platform.tutor("plugins", "disable", "usher")
        return "disabled"

    @property
    def _purges(self) -> bool:
        return self._purge and self.last

    def _values(self) -> dict[str, Any]:
        """What of config.yml changes; None for what goes."""
        present = configuration.read(self._platform.instance.config_file)
        if self._purges:
            return {key: None for key in present if key.startswith(configuration.PREFIX)}
        values: dict[str, Any] = dict.fromkeys(configuration.of_applications(present, self._names))
        if present.get(configuration.APPLICATIONS, []) != self._staying:
            values[configuration.APPLICATIONS] = self._staying
        return values

    def _configure(self) -> str:
        configuration.write(self._platform.instance.config_file, self._values())
        self._platform.forget()
        return "written"

    def _render(self) -> str:
        self._mark.set()
        self._platform.tutor("config", "save")
        return "rendered"

    def _is_plain(self) -> bool:
        """No application that goes is still offered by the running LMS."""
        if self._mark.stands:
            return False
        return not any(checks.leads_to(found, self._addresses) for found in self._made())

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


def _joined(kept: Description | None, rendered: Description | None) -> Description:
    """All applications that either names, as they were kept."""
    found = {
        application.name: application
        for description in (rendered, kept)
        if description
        for application in description.with_own_workers()
    }
    return Description(list(found.values()))
