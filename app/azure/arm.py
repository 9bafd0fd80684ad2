"""Reads and actions of Azure Resource Manager over one pipeline: bounded, retried, with correlation ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.records import Record

if TYPE_CHECKING:
    from app.identity.clouds import CloudEndpoints
    from app.identity.identity import Identity


class ArmAnswer(Record):
    """A good answer (2xx) of ARM."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: dict[str, Any]
    """The JSON object; empty when there is none."""


class Arm:
    """ARM as one identity. All methods raise JumpdeckError only (layers sign-in, arm)."""

    def __init__(
        self, identity: Identity, endpoints: CloudEndpoints, *, proxy: str | None = None, ca_file: str | None = None
    ) -> None:
        raise NotImplementedError

    async def get(self, path: str, api_version: str, params: dict[str, str] | None = None) -> dict[str, Any]:
        """The object at an ARM id or path (`/subscriptions/…`)."""
        raise NotImplementedError

    async def list(self, path: str, api_version: str, params: dict[str, str] | None = None) -> list[dict[str, Any]]:
        """All items of a collection, over its pages (nextLink, same host only)."""
        raise NotImplementedError

    async def post(
        self, path: str, api_version: str, body: dict[str, Any] | None = None, params: dict[str, str] | None = None
    ) -> ArmAnswer:
        """An action. 202 is a good answer: its Location and Retry-After are in the headers."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the connections."""
        raise NotImplementedError
