"""Facts about the LMS: its answers, and its report."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import httpx

from usher.contract.answers import json_object
from usher.contract.paths import LmsPath
from usher.contract.report import LmsReport, Provider, Site
from usher.doctor.facts.memo import NotKnownError, fact
from usher.doctor.facts.web import NoAnswerError, Web


@dataclass
class Lms:
    """url: its address for this machine and browsers. token: the service worker's. read_report:
    reads the LMS's report if the web server does not return it; None if there is no other way."""

    web: Web
    url: str
    token: str = field(default="", repr=False)
    read_report: Callable[[], LmsReport] | None = None

    @fact
    def report(self) -> LmsReport:
        """The LMS's report. Raises NotKnownError if usher.lms isn't installed or can't be
        reached."""
        if report := self._report_of_web_server():
            return report
        if self.read_report is None:
            raise NotKnownError("the LMS's own report is needed: give --tutor-root or --lms-home")
        return self.read_report()

    def _report_of_web_server(self) -> LmsReport | None:
        """The report of the LMS's web server, which is fast and has the settings in use. None if
        the web server does not run, refuses the token, or has no Usher."""
        if not (self.url and self.token):
            return None
        try:
            _ = self.me  # raises early if the LMS doesn't answer: the report has a long timeout
            url = self.at(LmsPath.USHER_REPORT)
            answer = self.web.request("GET", url, token=self.token, timeout=60)
        except NoAnswerError:
            return None
        if answer.status_code != httpx.codes.OK:
            return None
        report = cast(LmsReport, json_object(answer.content))
        return report if "version" in report else None

    def get(self, path: str, *, token: str = "") -> httpx.Response:
        """Requests a page and follows no redirect. token: '' for an anonymous request."""
        return self.web.get(self.at(path), token)

    def at(self, path: str) -> str:
        """Returns the address of a path of the LMS. Raises NotKnownError without the LMS's
        address."""
        if not self.url:
            raise NotKnownError("the LMS's address is not known: give --lms")
        return self.url.rstrip("/") + path

    @fact
    def me(self) -> httpx.Response:
        """The LMS's answer about the owner of the service worker's token. Raises NotKnownError
        without a token."""
        if not self.token:
            raise NotKnownError("the service worker's token is not known")
        return self.get(LmsPath.ME, token=self.token)

    @fact
    def site(self) -> Site:
        """The LMS's own site, whose id is SITE_ID. Raises NotKnownError if it isn't reported."""
        for site in self.report.get("sites", []):
            if site.get("current"):
                return site
        raise NotKnownError("the LMS does not report its site")

    def setting(self, name: str) -> Any:
        """The value in the running LMS. Raises NotKnownError if it isn't reported."""
        settings = self.report.get("settings", {})
        if name not in settings:
            raise NotKnownError(f"the LMS does not report {name}")
        return settings[name]

    def feature(self, name: str) -> Any:
        """The value of a FEATURES flag in the running LMS. Raises NotKnownError if it isn't
        reported."""
        features = self.report.get("features", {})
        if name not in features:
            raise NotKnownError(f"the LMS does not report FEATURES {name}")
        return features[name]

    def providers(self, backend: str) -> list[Provider]:
        """The newest records of this backend, one for each site."""
        providers = self.report.get("providers", [])
        return [row for row in providers if row.get("backend_name") == backend]

    def provider(self, backend: str) -> Provider:
        """The record in use: the newest on the LMS's own site. Raises NotKnownError without one."""
        for row in self.providers(backend):
            if row.get("site_id") == self.site.get("id"):
                return row
        raise NotKnownError(f"the LMS has no provider record of {backend} on its site")
