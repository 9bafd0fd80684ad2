"""The source of tokens for each kind of sign-in: exactly the one that the profile names, never another in its place."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.asking import Notes
from app.errors import SignInError
from app.identity.attending import attending
from app.identity.clouds import is_built_in
from app.identity.source import About, TokenSource
from app.secrets.secret import SecretItem, client_certificate_name, client_secret_name
from app.text import clean

if TYPE_CHECKING:
    from app.asking import Asker
    from app.identity.clouds import CloudEndpoints
    from app.identity.credentials import Make, Proof
    from app.secrets.secret import Secret, SecretSource

WINDOWS = sys.platform == "win32"
_BROKER = "InteractiveBrowserBrokerCredential"
_TEXT_BROWSERS = ("lynx", "w3m", "links", "elinks", "www-browser", "browsh", "links2")
"""Browsers that would draw in our terminal."""
_BROWSER_SAYS = "Sign in in the browser window that has opened."
_BROKER_SAYS = "Sign in in the window of Windows that has opened."


class Ground:
    """What a source is made with."""

    def __init__(
        self, about: About, endpoints: CloudEndpoints, proxy: str | None, secrets: SecretSource, asker: Asker | None
    ) -> None:
        self.about, self.endpoints, self.proxy, self.secrets, self.asker = about, endpoints, proxy, secrets, asker

    @property
    def authority(self) -> dict[str, Any]:
        """Where to sign in, said outright: AZURE_AUTHORITY_HOST does not count."""
        return {
            "authority": self.endpoints.authority,
            # Of an authority of one's own, Microsoft's directory of clouds knows nothing, and is not to be asked.
            "disable_instance_discovery": not is_built_in(self.endpoints),
        }

    def note(self, text: str) -> None:
        """A sentence for the person."""
        who: object = self.asker  # it may have a place for notes beside its questions
        if isinstance(who, Notes):
            who.note(text)


def make_source(
    about: About, endpoints: CloudEndpoints, *, proxy: str | None, secrets: SecretSource, asker: Asker | None
) -> TokenSource:
    """The source of a sign-in. Loads what its kind needs. Raises SignInError where this kind cannot work."""
    made = _KINDS.get(about.kind)
    if made is None:
        raise SignInError("This kind of sign-in is not known", clean(about.kind), f"Known: {', '.join(_KINDS)}.",
                          code="JD-SIGN-IN-KIND")  # fmt: skip
    return made(Ground(about, endpoints, proxy, secrets, asker))


def _azure_cli(ground: Ground) -> TokenSource:
    from app.identity.azure_cli import AzureCliSource
    from app.identity.credentials import Threads

    return AzureCliSource(ground.about, threads=Threads(ground.about, ground.endpoints, ground.proxy))


def _lab(ground: Ground) -> TokenSource:
    from app.identity.lab import LabSource, not_in_a_lab
    from app.secrets.lab import lab_channel

    if lab_channel() is None:
        raise not_in_a_lab()
    return LabSource(ground.about)


# -- people -----------------------------------------------------------------------------------------------------------


def _person(ground: Ground, kind: str, says: str = "", **more: Any) -> TokenSource:
    from app.identity.credentials import PersonSource, Threads

    about = ground.about

    def make(options: dict[str, Any]) -> Any:
        from azure import identity

        named: dict[str, Any] = {**ground.authority, **options, **more}
        if "authentication_record" in options:  # it names authority and client; ours is in it already
            del named["authority"]
        elif about.client_id:
            named["client_id"] = about.client_id
        if about.tenant:
            named["tenant_id"] = about.tenant
        module = importlib.import_module("azure.identity.broker") if kind == _BROKER else identity
        return getattr(module, kind)(**named)

    return PersonSource(Threads(about, ground.endpoints, ground.proxy), make, says=says, note=ground.note)


def _device_code(ground: Ground) -> TokenSource:
    return _person(ground, "DeviceCodeCredential")


def _browser(ground: Ground) -> TokenSource:
    if why := no_browser():
        raise SignInError("No browser can be opened here", why, "Use the kind device-code, or azure-cli.",
                          code="JD-SIGN-IN-NO-BROWSER")  # fmt: skip
    return _person(ground, "InteractiveBrowserCredential", _BROWSER_SAYS, **_login_hint(ground.about))


def _broker(ground: Ground) -> TokenSource:
    if not WINDOWS:
        raise SignInError("The account broker exists on Windows only", clean(ground.about.label),
                          "Use the kind azure-cli, browser or device-code here.", code="JD-SIGN-IN-BROKER")  # fmt: skip
    return _person(ground, _BROKER, _BROKER_SAYS, parent_window_handle=_window(), **_login_hint(ground.about))


def _login_hint(about: About) -> dict[str, str]:
    return {"login_hint": about.account} if about.account else {}


def no_browser() -> str:
    """Why no browser with windows of its own can be opened; empty when one can."""
    if WINDOWS or sys.platform == "darwin":
        return ""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no desktop (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    for command in os.environ.get("BROWSER", "").split(os.pathsep):
        name = os.path.basename(command.split()[0]) if command.split() else ""
        if name in _TEXT_BROWSERS:
            return f"BROWSER names {clean(name)}, which would draw in this terminal"
    return ""


def _window() -> int:
    """The window that the broker's dialog belongs to: the terminal's, which owns that of the console."""
    import ctypes

    system: Any = getattr(ctypes, "windll")  # noqa: B009 (exists on Windows only)
    root_owner = 3  # GA_ROOTOWNER
    console = system.kernel32.GetConsoleWindow()
    return int(system.user32.GetAncestor(console, root_owner) or console)


# -- applications -----------------------------------------------------------------------------------------------------


def _app(ground: Ground, make: Make, *, proof: Proof | None = None, direct: bool = False) -> TokenSource:
    from app.identity.credentials import AppSource, Threads

    threads = Threads(ground.about, ground.endpoints, None if direct else ground.proxy)
    return AppSource(threads, make, proof=proof)


def _managed_identity(ground: Ground) -> TokenSource:
    def make(options: dict[str, Any]) -> Any:
        from azure.identity import ManagedIdentityCredential

        return ManagedIdentityCredential(client_id=ground.about.client_id or None, **options)

    return _app(ground, make, direct=True)  # a link-local address that no proxy reaches


class _Stored:
    """The proof of a service principal: its certificate if one is stored, else its secret, which may be asked for."""

    def __init__(self, ground: Ground) -> None:
        client = ground.about.client_id
        self._secrets = ground.secrets
        self._certificate = SecretItem(client_certificate_name(client), f"Certificate of {clean(client)}")
        self._secret = SecretItem(client_secret_name(client), f"Client secret of {clean(client)}")
        self._used: SecretItem | None = None

    async def get(self) -> dict[str, Any]:
        """As keyword arguments of the credential. Raises SignInError when nobody has it."""
        if (found := await self._secrets.known(self._certificate)) is not None:
            self._used = self._certificate
            return {"certificate_data": _certificate(found)}
        self._used = self._secret
        value = await self._secrets.known(self._secret) or await self._secrets.get(self._secret, asker=attending())
        return {"client_secret": value.reveal()}

    def refused(self, error: SignInError) -> None:
        """The service said no: a wrong one is not sent again."""
        if self._used is not None and error.code in _PROOF_REFUSED:
            self._secrets.refused(self._used)


_PROOF_REFUSED = ("JD-SIGN-IN-SECRET", "JD-SIGN-IN-SECRET-EXPIRED", "JD-SIGN-IN-CERTIFICATE")


def _service_principal(ground: Ground) -> TokenSource:
    about = ground.about

    def make(options: dict[str, Any]) -> Any:
        from azure.identity import CertificateCredential, ClientSecretCredential

        named: dict[str, Any] = {**ground.authority, **options, "client_id": about.client_id, "tenant_id": about.tenant}
        if "client_secret" in options:
            return ClientSecretCredential(**named)
        try:
            return CertificateCredential(**named)
        except ValueError:  # without its words: they may quote the file
            raise SignInError(
                "The client certificate cannot be read", "a PEM or PKCS #12 file with an RSA key is needed",
                f"jumpdeck secrets set client-certificate {clean(about.client_id)}", code="JD-SIGN-IN-CERTIFICATE",
            ) from None  # fmt: skip

    return _app(ground, make, proof=_Stored(ground))


def _certificate(found: Secret) -> bytes:
    import base64
    import binascii

    value = found.reveal()
    if "-----BEGIN" in value:
        return value.encode()
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return b"?"


def _environment(ground: Ground) -> TokenSource:
    def make(options: dict[str, Any]) -> Any:
        from azure.identity import EnvironmentCredential

        have = {name for name in (*_ENVIRONMENT, *_PROOFS) if os.environ.get(name)}
        missing = [name for name in _ENVIRONMENT if name not in have]
        if not have & set(_PROOFS):
            missing.append(" or ".join(_PROOFS))
        if missing:
            raise SignInError(
                "The environment names no service principal", f"not set: {', '.join(missing)}",
                "Set them, or choose another kind of sign-in.", code="JD-SIGN-IN-ENVIRONMENT",
            )  # fmt: skip
        return EnvironmentCredential(**ground.authority, **options)

    return _app(ground, make)


_ENVIRONMENT = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID")
_PROOFS = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH")

_KINDS: dict[str, Callable[[Ground], TokenSource]] = {
    "azure-cli": _azure_cli,
    "broker": _broker,
    "browser": _browser,
    "device-code": _device_code,
    "managed-identity": _managed_identity,
    "service-principal": _service_principal,
    "environment": _environment,
    "lab": _lab,
}
