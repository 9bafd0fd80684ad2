"""How we log in to an SSH server: which keys, certificates and secrets are tried, in which order, and what is said."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import asyncssh

from app.errors import JumpdeckError, ProfileError, SignInError
from app.routes import ssh_certificates, ssh_keys
from app.routes.ssh_agent import AgentError, AgentRefused
from app.routes.ssh_answers import INTERACTIVE, PASSWORD, Answers
from app.routes.ssh_keys import KeyFile, KeyProblem, WrongPassphrase
from app.routes.ssh_offers import Offer, Offers
from app.secrets.secret import SecretItem, passphrase_name
from app.tasks import in_own_thread
from app.text import clean, prose

if TYPE_CHECKING:
    from app.profiles.model import SshHop
    from app.routes.context import RouteContext
    from app.routes.ssh_certificates import Certificate

PASSPHRASE_TRIES = 3
"""How often a passphrase is asked for, as ssh does (NumberOfPasswordPrompts); nothing but this computer counts them."""
UNLOCK_LIMIT = 60.0
"""Seconds to decrypt a key: 0.2 as ssh-keygen makes them, 0.85 with `-a 100`."""
MAX_BANNERS = 8
"""Banners of one login that are shown; a server sends one."""
PUBLIC_KEY = "publickey"


class Login:
    """One try to log in. The hop's asyncssh.SSHClient hands the callbacks of the same names to it.

    Order: the hop's certificate and key, the agent, default key files (RFC 4252 §7), keyboard-interactive (RFC 4256),
    password (RFC 4252 §8). Make it with `prepare_login`, close it when the connection stands or has failed.
    """

    def __init__(
        self, spec: SshHop, user: str, host: str, port: int, context: RouteContext, before: str, alias: str,
        certified: tuple[KeyFile, Certificate] | None = None,
    ) -> None:  # fmt: skip
        self._user, self._host, self._context = user, host, context
        self._wants_password = spec.password
        self._answers = Answers(context, user, host, port, before, wanted=spec.password, alias=alias)
        self._offers = Offers(spec, user, self._sign, self._unlock, certified)
        self._asked: dict[str, None] = {}
        """Methods that the server wanted, in the order in which it came to them."""
        self._tried: list[Offer] = []
        self._signed: Offer | None = None
        """The key whose signature was sent and not refused so far."""
        self._notes: list[str] = []
        self._error: SignInError | ProfileError | None = None
        self._banners = 0

    async def gather(self) -> None:
        """Read the keys and the agent's list; see `prepare_login`."""
        await self._offers.gather()

    def options(self) -> dict[str, Any]:
        """Arguments for asyncssh.connect that are about logging in; they leave nothing to its defaults.

        `client_keys` is None on purpose: only None (not an empty list) keeps asyncssh from loading default keys and
        from asking an agent itself; all keys come from `public_key_auth_requested`.
        """
        return {
            "username": self._user, "client_keys": None, "client_certs": [], "agent_path": None,
            "agent_identities": None, "agent_forwarding": False, "pkcs11_provider": None, "password": None,
            "passphrase": None, "preferred_auth": [PUBLIC_KEY, INTERACTIVE, PASSWORD], "public_key_auth": True,
            "kbdint_auth": True, "password_auth": True, "gss_auth": False, "gss_kex": False, "gss_host": None,
            "host_based_auth": False, "client_host_keysign": False, "client_host_keys": [],
        }  # fmt: skip

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know although it works: keys left out, what a certificate forbids; cleaned text."""
        return tuple(dict.fromkeys([*self._offers.notes, *self._notes, *self._answers.notes]))

    @property
    def method(self) -> str:
        """How we got in, once we are: `key ED25519 SHA256:…`, `password`, `key … then keyboard-interactive`.

        `none` when the server wanted nothing.
        """
        steps = [self._signed.label] if self._signed else []
        return " then ".join(steps + list(self._answers.sent)) or "none"

    @property
    def asking(self) -> bool:
        """Whether a person (or an agent, which may be asking one) is being waited for right now."""
        return self._answers.waiting.now

    @property
    def prompt_seconds(self) -> float:
        """Seconds spent so far in waiting for a person or the agent: they do not count as the server's time."""
        return self._answers.waiting.seconds

    async def public_key_auth_requested(self) -> list[asyncssh.SSHKeyPair] | None:
        """The next key to offer; None when there are no more. Called again after each refusal."""
        self._asked[PUBLIC_KEY] = None
        self._signed = None
        if self._answers.stopped or not self._offers.left:
            return None
        self._tried.append(self._offers.left.pop(0))
        return [self._tried[-1]]

    async def password_auth_requested(self) -> str | None:
        """The password to send; None to try no password (more). Called again after each refusal."""
        self._asked[PASSWORD] = None
        return await self._answers.password()

    async def kbdint_auth_requested(self) -> str | None:
        """Empty to let the server choose what it asks (RFC 4256 §3.1); None to go on without."""
        self._asked[INTERACTIVE] = None
        return "" if await self._answers.start() else None

    async def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str] | None:
        """Answers to what the server asks; None to give this method up. `lang` is deprecated by RFC 4256."""
        return await self._answers.answer(name, instructions, prompts)

    def auth_banner_received(self, msg: str, lang: str) -> None:
        """Show the server's banner (RFC 4252 §5.4), cleaned and bounded."""
        self._banners += 1
        if self._banners <= MAX_BANNERS:
            self._answers.tell(msg)

    def succeeded(self) -> None:
        """The server let us in: what was sent last was right, and stays remembered."""
        self._error = None
        self._answers.taken()

    def broken_off(self, error: JumpdeckError) -> JumpdeckError:
        """What to raise when the connection ended with `error` before the server had decided about the login."""
        if unheard := self._answers.unheard():
            return unheard
        return self.denied() if self._answers.broken_off() else error

    def close(self) -> None:
        """End the connection to the agent and forget key material. May be called more than once."""
        self._offers.close()

    async def _sign(self, offer: Offer, data: bytes) -> bytes:
        """The server would take this key. Raises ValueError: asyncssh then goes on to the next."""
        try:
            if offer.agent is not None:
                signature = await self._answers.waiting.on(
                    offer.agent.sign(offer.key_public_data, data, offer.sig_algorithm)
                )
            else:
                assert offer.file is not None
                await self._unlock(offer.file)
                signature = await asyncio.to_thread(offer.file.sign, data, offer.sig_algorithm)
        except AgentRefused:
            self._notes.append(
                f"the server takes {offer.label}, but the agent would not sign with it: not confirmed, its card or "
                "token is away, or it is bound to destinations (ssh-add -h), which needs OpenSSH's own client"
            )
        except AgentError as error:
            self._notes.append(f"the server takes {offer.label}, but the agent failed: {error}")
        except (SignInError, ProfileError) as error:
            self._error = error
        except ValueError as error:  # asyncssh's, of a security key
            self._notes.append(f"no signature with {offer.label}: {prose(str(error), 200)}")
        else:
            self._signed = offer
            return signature
        raise ValueError("no signature") from None

    async def _unlock(self, file: KeyFile) -> None:
        """Ask for the passphrase of a key and decrypt it. Raises SignInError and ProfileError."""
        if file.usable:
            return
        item = SecretItem(passphrase_name(file.path), f"Passphrase of {file.name}")
        for _ in range(PASSPHRASE_TRIES):
            secret = await self._answers.secret(item)
            if secret is None:
                assert self._answers.failure is not None
                raise self._answers.failure
            try:
                async with asyncio.timeout(UNLOCK_LIMIT):
                    await in_own_thread(lambda: file.unlock(secret), name="unlock an SSH key")  # noqa: B023
                return
            except WrongPassphrase:
                self._context.secrets.refused(item)
                if self._context.asker is None:
                    break
            except KeyProblem as error:
                raise ssh_keys.problem(file.path, error.why, error.hint) from None
            except TimeoutError:
                raise ssh_keys.problem(
                    file.path, f"decrypting it takes longer than {UNLOCK_LIMIT:g} s",
                    "Give it fewer rounds: ssh-keygen -p -a 16 -f FILE.",
                ) from None  # fmt: skip
        raise ssh_keys.passphrase_refused(file)

    def denied(self, exc: BaseException | None = None, offered: Sequence[str] = ()) -> SignInError | ProfileError:
        """The error for a login that failed, after asyncssh.PermissionDenied or a disconnect while logging in.

        `offered`: methods that the server named, when known; those that it came to are known here. Secrets that it
        refused are forgotten (`SecretSource.refused`). Codes: JD-SSH-DENIED, JD-SSH-PASSPHRASE, JD-SSH-CERTIFICATE,
        JD-SSH-KEY, JD-SECRET-NEEDED.
        """
        self._answers.refuse_all()
        needed = self._answers.failure
        if self._error is not None:
            return self._error
        if needed is not None and (self._wants_password or self._answers.stopped or self._signed is not None):
            return needed
        for certificate, problem in self._offers.problems:
            if any(offer.certificate == certificate for offer in self._tried) and not self._answers.tries:
                return ssh_certificates.refusal(certificate, problem)
        return SignInError(
            "The SSH server does not let us in", "; ".join(self._facts(exc, offered)), self._hint(),
            code="JD-SSH-DENIED", layer="hop",
        )  # fmt: skip

    def _facts(self, exc: BaseException | None, offered: Sequence[str]) -> list[str]:
        methods = ", ".join(dict.fromkeys([*self._asked, *(clean(one)[:64] for one in offered)])) or "none that we know"
        facts = [f"{clean(self._host)} refused every method it offers ({methods}) for user {clean(self._user)}"]
        if self._tried:
            facts.append("tried: " + ", ".join(offer.label for offer in self._tried))
        else:
            facts.append("no key was there to try")
        if self._answers.tries:
            facts.append(f"{self._answers.tries} password{'s' if self._answers.tries > 1 else ''} or answers refused")
        if isinstance(exc, asyncssh.DisconnectError) and not isinstance(exc, asyncssh.PermissionDenied):
            facts.append(f"the server says: {prose(exc.reason, 300)}")
        facts += [f"{certificate.name}: {problem}" for certificate, problem in self._offers.problems]
        return [*facts, *self.notes]

    def _hint(self) -> str:
        user, host = clean(self._user), clean(self._host)
        if any("would not sign" in note for note in self._notes):
            return "Confirm it, or add the key to the agent without -h (ssh-add KEY), or name its file with `key`."
        if self._answers.tries:
            return f"Check the user and the password of {user} on {host}; the server may count failures and lock out."
        if self._tried:
            return f"Add the public key to ~/.ssh/authorized_keys of {user} on {host}, or set another `key` or `user`."
        if self._context.asker is None:
            return "Name a key in the profile, start an agent, or run it in a terminal so that it can ask."
        return "Name a key in the profile, or start an agent that holds one."


async def prepare_login(
    spec: SshHop, user: str, host: str, port: int, context: RouteContext, *, before: str = "", alias: str = "",
    certified: tuple[KeyFile, Certificate] | None = None,
) -> Login:  # fmt: skip
    """Read the keys that the hop names, check its certificate and find its agent; sends nothing to the server.

    It asks for nothing either, except the passphrase of a named PEM file whose public half is not known. `before`:
    the hop before it, for questions (`through jump01`). `alias`: the name that stands for the server where its address
    says nothing; a password belongs to it. Raises ProfileError (JD-SSH-KEY: missing, unreadable, too open,
    not a private key; JD-SSH-CERTIFICATE: no certificate) and SignInError (JD-SSH-CERTIFICATE: expired, not yet valid,
    of another key, not for users; JD-SSH-AGENT: the agent that the hop names does not answer; JD-SSH-PASSPHRASE,
    JD-SECRET-NEEDED).
    """
    login = Login(spec, user, host, port, context, before, alias, certified)
    try:
        await login.gather()
    except BaseException:
        login.close()
        raise
    return login
