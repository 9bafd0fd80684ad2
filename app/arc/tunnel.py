"""A local way to one connected cluster, as its session uses it: the vendor's proxy, driven by us or by az."""

from __future__ import annotations

from typing import Protocol

from app.errors import JumpdeckError


class Tunnel(Protocol):
    """A program of ours listens on a loopback port for one cluster. Made open; ended by `aclose`."""

    @property
    def kubeconfig(self) -> bytes:
        """The way in as the program wrote it: `https://127.0.0.1:PORT/HASH`, and the CA of its certificate.

        May hold a token; never written, never shown.
        """
        ...

    @property
    def port(self) -> int:
        """The loopback port (TLS) that serves the Kubernetes API."""
        ...

    @property
    def pid(self) -> int:
        """The process that was started."""
        ...

    @property
    def label(self) -> str:
        """How it runs, for the screen: `arcProxy 1.3.035022`, `az connectedk8s proxy`; cleaned."""
        ...

    @property
    def correlation_id(self) -> str:
        """What Microsoft's support asks for; empty when it is not known."""
        ...

    @property
    def relay_ends(self) -> float | None:
        """POSIX seconds at which the tunnel ends unless it is renewed; None: not known."""
        ...

    @property
    def token_ends(self) -> float | None:
        """POSIX seconds at which the identity ends unless it is renewed; None: not known, or it needs none."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What else there is to say of it now (refresh fails, sign-in needed, why by az); cleaned."""
        ...

    async def check_listener(self) -> None:
        """Raise RouteError when what listens on `port` is not the program, or one that it started."""
        ...

    async def wait_lost(self) -> JumpdeckError:
        """Return when the program has ended, or what it lives by (relay, identity), with the reason."""
        ...

    async def verify(self, limit: float) -> None:
        """Have the program answer on its port within `limit` seconds.

        Raises RouteError, and `wait_lost` returns everywhere, when it does not.
        """
        ...

    async def aclose(self) -> None:
        """End the program and everything that it started. Twice is no error."""
        ...
