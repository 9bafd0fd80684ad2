"""How we log in to an SSH server: which keys, certificates and secrets are tried, in which order, and what is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import asyncssh

from app.errors import SignInError

if TYPE_CHECKING:
    from app.profiles.model import SshHop
    from app.routes.context import RouteContext


class Login:
    """One try to log in. The hop's asyncssh.SSHClient hands the callbacks of the same names to it.

    Order: the hop's certificate and key, the agent, default key files (RFC 4252 §7), keyboard-interactive (RFC 4256),
    password (RFC 4252 §8). Make it with `prepare_login`, close it when the connection stands or has failed.
    """

    notes: tuple[str, ...] = ()
    """What a person should know although it works: `certificate ends at …`, keys that were left out; cleaned text."""

    def options(self) -> dict[str, Any]:
        """Arguments for asyncssh.connect that are about logging in; they leave nothing to its defaults.

        `client_keys` is None on purpose: only None (not an empty list) keeps asyncssh from loading default keys and
        from asking an agent itself; all keys come from `public_key_auth_requested`.
        """
        return {
            "username": "", "client_keys": None, "client_certs": [], "agent_path": None, "agent_identities": None,
            "agent_forwarding": False, "pkcs11_provider": None, "password": None, "passphrase": None,
            "preferred_auth": ["publickey", "keyboard-interactive", "password"], "public_key_auth": True,
            "kbdint_auth": True, "password_auth": True, "gss_auth": False, "gss_kex": False, "gss_host": None,
            "host_based_auth": False, "client_host_keysign": False, "client_host_keys": [],
        }  # fmt: skip

    @property
    def method(self) -> str:
        """How we got in, once we are: `key ED25519 SHA256:…`, `password`; `none` before anything was sent."""
        raise NotImplementedError

    @property
    def asking(self) -> bool:
        """Whether a person (or an agent, which may be asking one) is being waited for right now."""
        raise NotImplementedError

    @property
    def prompt_seconds(self) -> float:
        """Seconds spent so far in waiting for a person or the agent: they do not count as the server's time."""
        raise NotImplementedError

    async def public_key_auth_requested(self) -> list[asyncssh.SSHKeyPair] | None:
        """The next key to offer; None when there are no more. Called again after each refusal."""
        raise NotImplementedError

    async def password_auth_requested(self) -> str | None:
        """The password to send; None to try no password (more). Called again after each refusal."""
        raise NotImplementedError

    async def kbdint_auth_requested(self) -> str | None:
        """Empty to let the server choose what it asks (RFC 4256 §3.1); None to go on without."""
        raise NotImplementedError

    async def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str] | None:
        """Answers to what the server asks; None to give this method up."""
        raise NotImplementedError

    def auth_banner_received(self, msg: str, lang: str) -> None:
        """Show the server's banner (RFC 4252 §5.4), cleaned and bounded."""
        raise NotImplementedError

    def denied(self, exc: BaseException | None = None, offered: Sequence[str] = ()) -> SignInError:
        """The error for a login that failed, after asyncssh.PermissionDenied or a disconnect while logging in.

        `offered`: methods that the server named, when known; those that it asked for are known here. Secrets that it
        refused are forgotten (`SecretSource.refused`). Codes: JD-SSH-DENIED, JD-SSH-PASSPHRASE, JD-SSH-CERTIFICATE,
        JD-SECRET-NEEDED.
        """
        raise NotImplementedError

    def succeeded(self) -> None:
        """The server let us in: what was sent last was right."""
        raise NotImplementedError

    def close(self) -> None:
        """End the connection to the agent and forget key material. May be called more than once."""
        raise NotImplementedError


async def prepare_login(
    spec: SshHop, user: str, host: str, port: int, context: RouteContext, *, before: str = ""
) -> Login:
    """Read the keys that the hop names, check its certificate and find its agent; asks nobody, sends nothing.

    `before`: the hop before it, for questions (`through jump01`). Raises ProfileError (JD-SSH-KEY: missing, unreadable,
    too open, not a private key) and SignInError (JD-SSH-CERTIFICATE: expired, not yet valid, of another key, not a
    user certificate; JD-SSH-AGENT: the agent that the hop names does not answer).
    """
    raise NotImplementedError
