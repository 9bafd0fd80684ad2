"""What can be asked of the person at the terminal or the console, and how: questions, answers, and who asks.

Text in a question that comes from outside (a server's prompt, a banner, a name) is cleaned before it stands here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from app.records import Record, field

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from app.trust import TrustedCommand


class SecretAnswer(Record):
    """A secret as it was typed, and whether the person wants it kept in the operating system's store."""

    value: str
    keep: bool = False

    def __repr__(self) -> str:
        return "SecretAnswer(***)"


class Prompt(Record):
    """One field of a server's question (keyboard-interactive, RFC 4256 §3.2): its text and whether typing shows."""

    text: str
    echo: bool = False


class HostKeyQuestion(Record):
    """An SSH server that is not known yet shows its key: what a person needs in order to decide."""

    profile: str
    host: str
    """The host as the profile names it."""
    address: str
    """Where the connection really goes, e.g. `10.4.0.7:22` or `through jump01`."""
    key_type: str
    """`ED25519`, `RSA 3072`."""
    fingerprint: str
    """`SHA256:` and base64 without padding, as OpenSSH prints it."""
    alias: str = ""
    """The name under which trust is kept when it is not the host's."""
    notes: tuple[str, ...] = ()
    """Facts beside it: that keys of other types are known, the command that reads the key out of the VM."""

    @property
    def proof(self) -> str:
        """What the person types for yes: the last four characters of the fingerprint (or the word `trust`)."""
        return self.fingerprint[-4:]


class DeviceCode(Record):
    """A sign-in that a person finishes in a browser, on any computer (RFC 8628 §3.3). All text is cleaned."""

    sign_in: str
    """Which sign-in asks: `device-code` or the name of its table."""
    url: str
    """Where to type the code, `https://microsoft.com/devicelogin`."""
    code: str = field(repr=False)
    expires_at: float
    """POSIX seconds."""
    says: str = ""
    """What to do instead, when there is no code: a window of a browser has opened."""


class ConsentQuestion(Record):
    """Something that is done only when the person wants it: a download, the end of an orphan. All text is cleaned."""

    title: str
    """What it is about, in a few words; a sentence without its full stop."""
    lines: tuple[str, ...] = ()
    """What a person needs in order to decide: from where, how much, under whose licence."""
    yes: str = "do it"
    """What happens on yes, as a verb: `download it`."""
    default: bool = False
    """What enter alone means at a terminal. In the console yes takes a key of its own."""


class Asker(Protocol):
    """Asks the person. Code that gets None in its place must fail with what to run first. One question at a time."""

    async def ask_secret(self, what: str, *, may_keep: bool = False) -> SecretAnswer | None:
        """Ask for `what` without echo; None when the person gives up. `may_keep` offers to store it for good."""
        ...

    async def ask_trust(self, command: TrustedCommand) -> bool:
        """Show the command as it will run (argv, program, hash) and ask whether it may."""
        ...

    async def ask_host_key(self, question: HostKeyQuestion) -> bool:
        """Show the key of an unknown server; only typing `question.proof` or `trust` says yes."""
        ...

    async def ask_prompts(
        self, server: str, title: str, instructions: str, prompts: tuple[Prompt, ...]
    ) -> tuple[str, ...] | None:
        """Show what `server` asks (labelled as the server's words) and return an answer each; None: gave up."""
        ...

    async def show_device_code(self, code: DeviceCode) -> None:
        """Show where to sign in with which code, until this is cancelled because the sign-in has ended.

        Returns when the person gives up.
        """
        ...

    def tell(self, server: str, text: str) -> None:
        """Show a server's banner, labelled as its words. Never blocks."""
        ...


@runtime_checkable
class StandsAside(Protocol):
    """What an asker may have beside its questions: a way to wait for the answer to somebody else's."""

    def aside(self) -> AbstractAsyncContextManager[None]:
        """While inside, whoever asks through this waits for a secret that another is being asked for."""
        ...


@runtime_checkable
class Notes(Protocol):
    """What an asker may have beside its questions: a place for a sentence of Jumpdeck's own."""

    def note(self, text: str) -> None:
        """Show a sentence (cleaned text), such as that secrets are kept in memory only. Never blocks."""
        ...


@runtime_checkable
class Consents(Protocol):
    """What an asker may have beside its questions: a way to ask whether something may be done."""

    async def ask_consent(self, question: ConsentQuestion) -> bool:
        """Show the question; False also when the person gives up or nobody is there."""
        ...
