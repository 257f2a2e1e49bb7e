"""Sends ``MANAGERS`` one mail about the records that were refused since the last mail, grouped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.core.mail import get_connection, mail_managers
from django.db import IntegrityError, transaction
from django.urls import NoReverseMatch, reverse

from usher.application import conf
from usher.application.adapter import REFUSED_NEXT, digest_minutes
from usher.console import words
from usher.console.refusals.services import Group, groups_since
from usher.engine.clock import database_now
from usher.engine.models import Watermark
from usher.engine.observers import Observer
from usher.engine.registry import all_kinds

#: Seconds between two checks by one worker.
_SECONDS_BETWEEN_CHECKS = 60.0
#: Seconds to wait for the mail server.
_MAIL_TIMEOUT = 10
#: The least period of the first mail: refusals may be older than the first check.
_FIRST_PERIOD = timedelta(hours=1)
#: The name of the row that stores when a mail was last due; its ``since`` is not used.
_WATERMARK = "digest"


class Digest(Observer):
    """Checks every minute whether a mail is due. The first worker that finds a mail due sends
    it."""

    def __init__(self) -> None:
        self._checked_at = time.monotonic()

    def beat(self) -> None:
        if time.monotonic() - self._checked_at >= _SECONDS_BETWEEN_CHECKS:
            self._checked_at = time.monotonic()
            send_if_due()


@dataclass(frozen=True)
class Mail:
    subject: str
    text: str


def send_if_due() -> bool:
    """Sends a mail if one is due and records were refused. Returns whether there was a mail to
    send, also if the mail server failed: the mail is not retried, since later refusals cause
    another one."""
    minutes = digest_minutes()
    if minutes <= 0 or not settings.MANAGERS:
        return False
    since = _claim_period(timedelta(minutes=minutes))
    if since is None:
        return False
    groups = groups_since(all_kinds().values(), since)
    if not groups:
        return False
    mail = compose(groups, since)
    connection = None
    if "smtp" in settings.EMAIL_BACKEND:  # other backends have no such parameter
        connection = get_connection(timeout=_MAIL_TIMEOUT)
    mail_managers(mail.subject, mail.text, fail_silently=True, connection=connection)
    return True


def _claim_period(interval: timedelta) -> datetime | None:
    """Returns the time from which this worker must report refusals; None if no mail is due, or
    another worker is sending it. If it returns a time, it has stored the time of this call: the
    next mail is due ``interval`` later."""
    now = database_now()
    last_digest = Watermark.objects.filter(name=_WATERMARK).first()
    if last_digest is None:
        try:
            with transaction.atomic():
                Watermark.objects.create(name=_WATERMARK, since="", asked_at=now)
        except IntegrityError:  # another worker was faster, and sends the mail
            return None
        return now - max(interval, _FIRST_PERIOD)
    if now - last_digest.asked_at < interval:
        return None
    # Updates no row if another worker has changed it meanwhile.
    unchanged = Watermark.objects.filter(name=_WATERMARK, asked_at=last_digest.asked_at)
    number_updated = unchanged.update(asked_at=now)
    return last_digest.asked_at if number_updated else None


def compose(groups: list[Group], since: datetime) -> Mail:
    """Writes the mail about these groups. since: the groups have the records that were refused
    after this time."""
    count = sum(group.count for group in groups)
    noun = "record" if count == 1 else "records"
    lines = [f"Open edX refused {count:,} {noun} since {since:%Y-%m-%d %H:%M} UTC.", ""]
    for group in groups:
        message_on_one_line = " ".join(group.message.split())
        lines += [
            f"- {words.plural(group.kind)}, {group.count:,}: {group.title} [{group.code}]",
            f"  {group.message_label}: {message_on_one_line[:300]}",
            f"  {group.advice}",
            "",
        ]
    lines.append(REFUSED_NEXT)
    url = _url()
    if url:
        lines.append(url)
    return Mail(f"Open edX refused {count:,} {noun}", "\n".join(lines) + "\n")


def _url() -> str:
    """The URL of the refusals page; '' when the project does not include the console."""
    try:
        return conf.settings().site_base_url + reverse("usher_console:refusals")
    except NoReverseMatch:
        return ""
