"""A browser without JavaScript in front of the pages of money: it signs in, reads pages, fills forms and keeps files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
from billing_desk import Parties
from house import House, Person

from rochdale_kit.server import Service
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres
from storefront.config import Config
from storefront.main import build


class Sheet(HTMLParser):
    """A page as a browser reads it: its text, links and forms; fails on what our pages must never hold."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.words: list[str] = []
        self.links: list[str] = []
        self.forms: dict[str, dict[str, str]] = {}
        self.ids: list[str] = []
        self.labeled: list[str] = []
        self.tags: list[str] = []
        self.meters: list[str] = []
        self._form: dict[str, str] = {}
        self._area = ""
        self.feed(html)
        assert len(self.ids) == len(set(self.ids)), sorted(self.ids)
        assert self.tags.count("h1") == 1 and self.tags.count("main") == 1
        assert set(self.labeled) <= set(self.ids), "a label is for a field of the page"

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        assert tag not in ("script", "style", "iframe", "object"), "a page runs nothing"
        assert not any(name.startswith("on") or name == "style" for name in found), found
        self.tags.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found["href"])
        elif tag == "meter":
            self.meters.append(found["value"])
        elif tag == "label" and "for" in found:
            self.labeled.append(found["for"])
        elif tag == "form":
            assert found["method"] in ("post", "get") and found["action"].startswith("/")
            self._form = self.forms.setdefault(found["action"], {})
        elif tag in ("input", "textarea", "select") and "name" in found:
            hidden = found.get("type") in ("hidden", "radio")
            assert hidden or found.get("id") or found.get("aria-label"), f"{found['name']} has no id, so no label"
            if found.get("type") != "radio" or "checked" in found:
                self._form[found["name"]] = found.get("value", "")
            self._area = found["name"] if tag == "textarea" else ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._area = ""

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._area:
            self._form[self._area] += data


class Browser:
    """One person at a browser."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.origin = str(client.base_url).rstrip("/")

    async def sign_in(self, person: Person, then: str = "") -> Sheet:
        sheet = await self.page(f"/sign-in?next={then}" if then else "/sign-in")
        return await self.send(sheet, "/sign-in", key=person.secret)

    async def page(self, path: str, status: int = 200) -> Sheet:
        return self._read(await self.client.get(path), status)

    async def send(self, sheet: Sheet, action: str, status: int = 200, **fields: str) -> Sheet:
        """Fills the one form of a page that goes to an address with this end, and presses its button."""
        return self._read(await self.post(sheet, action, **fields), status)

    async def post(self, sheet: Sheet, action: str, **fields: str) -> httpx.Response:
        [where] = [one for one in sheet.forms if one.endswith(action)]
        assert set(fields) <= set(sheet.forms[where]), sheet.forms[where]
        return await self.client.post(
            where,
            data=sheet.forms[where] | fields,
            headers={"origin": self.origin, "sec-fetch-site": "same-origin"},
        )

    async def file(self, path: str) -> httpx.Response:
        """What is downloaded, kept by nobody on the way and taken for nothing else than it is."""
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text[:500]
        return kept(answer)

    @staticmethod
    def _read(answer: httpx.Response, status: int) -> Sheet:
        sheet = Sheet(answer.text)
        assert answer.status_code == status, (answer.status_code, sheet.text[:800])
        assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
        return sheet


def kept(answer: httpx.Response) -> httpx.Response:
    assert answer.headers["content-disposition"].startswith('attachment; filename="')
    assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
    return answer


class Shopfront:
    """A storefront in front of one billing, and browsers for whoever comes."""

    def __init__(self, service: Service, stack: AsyncExitStack) -> None:
        self.service = service
        self._stack = stack

    async def stranger(self) -> Browser:
        client = httpx.AsyncClient(
            base_url=f"http://{self.service.http_address}", timeout=60, follow_redirects=True, max_redirects=5
        )
        return Browser(await self._stack.enter_async_context(client))

    async def browser(self, person: Person) -> Browser:
        """Somebody who is signed in."""
        browser = await self.stranger()
        assert "Your account" in (await browser.sign_in(person)).text
        return browser


@asynccontextmanager
async def open_shopfront(
    house: House, billing: Service, shelf: Any, hall: Any, **more: str
) -> AsyncIterator[Shopfront]:
    """more: settings."""
    settings: dict[str, Any] = {
        "http_address": "127.0.0.1:0",
        "catalog_address": shelf.address,
        "governance_address": hall.address,
        "identity_address": house.services["identity"].grpc_address,
        "billing_address": billing.grpc_address,
        # Licensing is away: a page of money shows what billing knows.
        "licensing_address": "127.0.0.1:9",
    }
    async with AsyncExitStack() as stack:
        service = await build(Config(**(settings | more)))
        await stack.enter_async_context(service.running())
        yield Shopfront(service, stack)


@asynccontextmanager
async def open_parties(postgres: Postgres, folder: Path) -> AsyncIterator[Parties]:
    """Who takes part, beside a nats-server of their own: another House's billing would take our events."""
    server = NatsServer(folder / "nats", durable=False)
    await server.start()
    house = House(postgres, server, folder)
    await house.start("identity")
    yield Parties(
        house,
        await house.buyer("acme"),
        await house.buyer("rival"),
        await house.steward("valley-health"),
        await house.operator(),
    )
    await house.stop()
    await server.stop()
