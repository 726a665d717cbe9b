"""Mail inboxes from AgentMail, each with a key that reaches this inbox alone.

Creating an inbox is idempotent by `client_id`, for which we give our name; the address is the vendor's random choice. The
inbox's own key is shown once, so after a lost answer it is replaced. Deleting the inbox ends what the key reaches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field, SecretStr

from shared.errors import RemoteError, RemoteRefusedError
from shared.remote import Remote, Reply, Retry, read_error_body
from shared.services import names
from shared.services.plugins.base import NAME_SPENT, Grant, Held, Page, VendorKey, confirm, told
from shared.settings import Settings, reveal

_PAGE_SIZE = 100
_PERMISSIONS = (
    "inbox_read",
    "message_read",
    "message_send",
    "message_update",
    "message_delete",
    "draft_read",
    "draft_create",
    "draft_update",
    "draft_delete",
    "draft_send",
)
"""What an instance may do in its own inbox: read, write and sort mail; make no key, no inbox and no webhook (P42)."""


class AgentMailSettings(Settings):
    """How inboxes are made."""

    agentmail_api_url: str = Field("https://api.agentmail.to/v0", pattern=r"^https?://\S+$", description="AgentMail's API")
    agentmail_api_key: VendorKey = Field(description="the organization's key, with which inboxes are made")
    agentmail_domain: str | None = Field(None, description="the verified domain of new inboxes; empty: the vendor's own")


class _Inbox(BaseModel):
    inbox_id: str
    email: str = ""
    client_id: str | None = None
    created_at: str = ""


class _Inboxes(BaseModel):
    inboxes: list[_Inbox]
    next_page_token: str | None = None


class _Key(BaseModel):
    api_key_id: str
    name: str = ""


class _Keys(BaseModel):
    api_keys: list[_Key]
    next_page_token: str | None = None


class _NewKey(BaseModel):
    api_key_id: str
    api_key: SecretStr


class _Problem(BaseModel):
    code: str = ""
    message: str = ""


class AgentMail:
    """A plugin; see `Plugin`."""

    tool: ClassVar[str] = "email"
    title: ClassVar[str] = "E-mail inbox"
    always: ClassVar[bool] = False
    reusable: ClassVar[bool] = False
    variables: ClassVar[tuple[str, ...]] = ("AGENTMAIL_API_KEY", "AGENTMAIL_INBOX_ID", "AGENTMAIL_EMAIL")
    settings: ClassVar[type[AgentMailSettings]] = AgentMailSettings

    def __init__(self, remote: Remote, *, domain: str | None) -> None:
        self._remote = remote
        self._domain = domain

    @classmethod
    def build(
        cls, settings: AgentMailSettings, *, transport: httpx.BaseTransport | None = None, retry: Retry = Retry()
    ) -> AgentMail:
        """Return the plugin that works with *settings*; no call is made."""
        headers = {"Authorization": f"Bearer {reveal(settings.agentmail_api_key)}"}
        remote = Remote(
            "AgentMail", settings.agentmail_api_url, headers=headers, retry=retry, transport=transport, explain=_explain
        )
        return cls(remote, domain=settings.agentmail_domain)

    def provision(self, name: str, *, attempt: int, doubtful: bool) -> Grant:
        """Make or find the inbox, then mint its one key; when doubtful, keys of earlier calls are deleted first.

        The vendor does not say what a `client_id` does whose inbox was deleted. Should it still answer with that inbox, then
        minting a key there answers 404, which is reported as `NAME_SPENT`.
        """
        inbox = self._inbox(name)
        if doubtful:
            self._delete_keys(inbox.inbox_id)
        key = self._mint(inbox.inbox_id, name)
        variables = {
            "AGENTMAIL_API_KEY": key,
            "AGENTMAIL_INBOX_ID": SecretStr(inbox.inbox_id),
            "AGENTMAIL_EMAIL": SecretStr(inbox.email or inbox.inbox_id),
        }
        return Grant(inbox.inbox_id, variables)

    def assign(self, resource_id: str, name: str) -> Grant:
        """Never asked: an inbox has seen its owner's mail and is not reusable."""
        raise NotImplementedError("an inbox is not reusable")

    def release(self, resource_id: str) -> None:
        """Delete the inbox; one that is gone, or being deleted already, is success."""
        try:
            reply = self._remote.send("DELETE", _path(resource_id), during="deleting an inbox", repeatable=True, accept=(404,))
            confirm(reply)
        except RemoteRefusedError as error:
            if error.remote_code != "resource_deleting":
                raise

    def find(self, name: str) -> str | None:
        """Look for the inbox whose `client_id` is *name*; repeating the create would make one."""
        cursor: str | None = None
        while True:
            page = self.inventory(cursor)
            for held in page.held:
                if held.name == name:
                    return held.resource_id
            cursor = page.next_cursor
            if cursor is None:
                return None

    def is_gone(self, resource_id: str) -> bool | None:
        """Ask for the inbox by its address."""
        return told(lambda: self._is_missing(resource_id))

    def inventory(self, cursor: str | None) -> Page:
        """List the inboxes whose `client_id` is a name of ours, newest first; the cursor is the vendor's page token."""
        params = {"limit": _PAGE_SIZE} | ({"page_token": cursor} if cursor else {})
        reply = self._remote.send("GET", "/inboxes", during="listing inboxes", params=params, repeatable=True)
        page = reply.parse(_Inboxes)
        found = ((inbox, inbox.client_id or "") for inbox in page.inboxes)
        held = tuple(Held(inbox.inbox_id, name, inbox.created_at) for inbox, name in found if names.parse(name) is not None)
        return Page(held, _following(reply, page.next_page_token, cursor))

    def _inbox(self, name: str) -> _Inbox:
        body = {"client_id": name} | ({"domain": self._domain} if self._domain else {})
        return self._remote.send("POST", "/inboxes", during="creating an inbox", json=body, repeatable=True).parse(_Inbox)

    def _mint(self, inbox_id: str, name: str) -> SecretStr:
        body = {"name": name, "permissions": dict.fromkeys(_PERMISSIONS, True)}
        during = "creating an inbox's key"
        reply = self._remote.send("POST", f"{_path(inbox_id)}/api-keys", during=during, json=body, accept=(404,))
        if reply.status == 404:
            raise _spent(during)
        return reply.parse(_NewKey).api_key

    def _delete_keys(self, inbox_id: str) -> None:
        """Delete every key of the inbox: all of them are ours, and nobody knows the secret of the last one."""
        for key in list(self._keys(inbox_id)):
            path = f"{_path(inbox_id)}/api-keys/{quote(key.api_key_id, safe='')}"
            confirm(self._remote.send("DELETE", path, during="deleting an inbox's key", repeatable=True, accept=(404,)))

    def _keys(self, inbox_id: str) -> Iterator[_Key]:
        during = "listing an inbox's keys"
        cursor: str | None = None
        while True:
            params = {"limit": _PAGE_SIZE} | ({"page_token": cursor} if cursor else {})
            path = f"{_path(inbox_id)}/api-keys"
            reply = self._remote.send("GET", path, during=during, params=params, repeatable=True, accept=(404,))
            if reply.status == 404:
                raise _spent(during)
            page = reply.parse(_Keys)
            yield from page.api_keys
            cursor = _following(reply, page.next_page_token, cursor)
            if cursor is None:
                return

    def _is_missing(self, resource_id: str) -> bool:
        reply = self._remote.send("GET", _path(resource_id), during="reading an inbox", repeatable=True, accept=(404,))
        if reply.status == 404:
            return True
        reply.parse(_Inbox)
        return False


def _path(inbox_id: str) -> str:
    return f"/inboxes/{quote(inbox_id, safe='')}"


def _following(reply: Reply, token: str | None, cursor: str | None) -> str | None:
    """Return the next page's token; one that leads back to the page just read would never end."""
    if token and token == cursor:
        raise RemoteError(reply.system, reply.during, "sent the same page twice")
    return token or None


def _spent(during: str) -> RemoteRefusedError:
    return RemoteRefusedError("AgentMail", during, "no longer has the inbox of this name", http_status=404, code=NAME_SPENT)


def _explain(reply: Reply) -> tuple[str, str]:
    problem = read_error_body(reply, _Problem)
    return (problem.code, problem.message) if isinstance(problem, _Problem) else ("", "")
