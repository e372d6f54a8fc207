"""Mails notices to members who gave an address: by SMTP, or as files on a laptop. Each goes to one person alone."""

from __future__ import annotations

import asyncio
import datetime as dt
import email.message
import email.utils
import logging
import os
import smtplib
import urllib.parse
from pathlib import Path
from typing import Protocol

from governance import store
from governance.store.notices import Mail
from rochdale_kit.clock import now
from rochdale_kit.database import LOST, Database, is_lost

log = logging.getLogger(__name__)

LOOP_SECONDS = 1.0
BATCH = 20
TIMEOUT_SECONDS = 20.0
FIRST_DELAY = dt.timedelta(minutes=1)
LONGEST_DELAY = dt.timedelta(hours=6)
MAX_ATTEMPTS = 10


class Post(Protocol):
    """Where mails go; raises OSError or SMTPException when it cannot take one."""

    def send(self, message: email.message.EmailMessage, id: str) -> None: ...


class Smtp:
    """A mail server: smtp://user:password@host:port, encrypted when the server offers it; or smtps://."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise SystemExit("GOVERNANCE_MAIL_SMTP_URL is not smtp://host:port or smtps://host:port.")
        self._tls = parts.scheme == "smtps"
        self._host, self._port = parts.hostname, parts.port or (465 if self._tls else 587)
        self._user = urllib.parse.unquote(parts.username or "")
        self._password = urllib.parse.unquote(parts.password or "")

    def send(self, message: email.message.EmailMessage, id: str) -> None:
        kind = smtplib.SMTP_SSL if self._tls else smtplib.SMTP
        with kind(self._host, self._port, timeout=TIMEOUT_SECONDS) as server:
            if not self._tls:
                server.ehlo()
                if server.has_extn("starttls"):
                    server.starttls()
            if self._user:
                server.login(self._user, self._password)
            server.send_message(message)


class Folder:
    """One .eml file each, readable for its owner alone."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder

    def send(self, message: email.message.EmailMessage, id: str) -> None:
        partial = self._folder / f"{id}.partial"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(bytes(message))
        partial.replace(self._folder / f"{id}.eml")


def post_of(smtp_url: str, directory: Path | None) -> Post | None:
    """The way mails go, as the settings say; None for none: then the inbox is all there is."""
    if smtp_url:
        return Smtp(smtp_url)
    return Folder(directory) if directory is not None else None


class Mailer:
    """Sends what is due, again and again until it went or ten attempts failed."""

    def __init__(self, database: Database, post: Post | None, sender: str) -> None:
        self._database = database
        self._post = post
        self._sender = sender
        self._failing = False

    async def run(self) -> None:
        """Until canceled. A mail server or a database that is away is waited out."""
        while True:
            try:
                sent = await self.send_due(now())
            except LOST as error:
                if not is_lost(error):
                    raise
                log.warning("mails wait: %s", error)
                sent = 0
            if not sent:
                await asyncio.sleep(LOOP_SECONDS)

    async def send_due(self, at: dt.datetime) -> int:
        """Sends what is due at that time; how many were tried."""
        async with self._database.begin() as connection:
            due = await store.notices.to_mail(connection, at, BATCH)
            # One by one, each noted in this transaction: what went before a crash may go again, and nothing is lost.
            for mail in due:
                if self._post is None or not mail.to or await self._sent(self._post, mail):
                    await store.notices.mailed(connection, [mail.id])
                elif mail.attempts + 1 >= MAX_ATTEMPTS:
                    log.error(
                        "notice %s was not mailed after %d attempts; it stays in the inbox", mail.id, MAX_ATTEMPTS
                    )
                    await store.notices.mailed(connection, [mail.id])
                else:
                    delay = min(FIRST_DELAY * 2**mail.attempts, LONGEST_DELAY)
                    await store.notices.mail_later(connection, mail.id, at + delay)
        return len(due)

    async def _sent(self, post: Post, mail: Mail) -> bool:
        try:
            message = _message(self._sender, mail)
        except (ValueError, AttributeError, IndexError) as error:
            # What email's parser raises at an address it cannot read: this one never goes, and holds up no other.
            log.warning("notice %s has no address that mail could go to: %s", mail.id, type(error).__name__)
            return True
        try:
            await asyncio.to_thread(post.send, message, mail.id)
        except (OSError, smtplib.SMTPException) as error:
            if not self._failing:
                # Once, not for every mail: the address is personal and the cause is the same.
                log.warning("mails cannot be sent and wait: %s", type(error).__name__)
            self._failing = True
            return False
        self._failing = False
        return True


def _message(sender: str, mail: Mail) -> email.message.EmailMessage:
    message = email.message.EmailMessage()
    message["From"] = sender
    message["To"] = mail.to
    message["Subject"] = " ".join(mail.subject.split())
    message["Date"] = email.utils.formatdate()
    message["Message-ID"] = f"<{mail.id}@notices.rochdale>"
    message.set_content(mail.text)
    return message
