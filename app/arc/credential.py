"""The credential of a connected cluster's relay and its kubeconfig, as ARM hands them out for a local proxy.

Wire: POST listClusterUserCredential of Microsoft.Kubernetes/connectedClusters by azure-mgmt-hybridkubernetes, over our
own pipeline (`app.azure.pipeline`): its limits, proxy, CA and repetitions. The answer is a secret as a whole.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

from app.arc import failures
from app.azure.failures import bad_shape, from_sdk
from app.azure.fields import inner, name_of, number, objects, part_of, text
from app.errors import JumpdeckError, ProfileError
from app.records import Record, field
from app.secrets.secret import Secret
from app.text import clean

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken as SdkToken
    from azure.core.credentials import AccessTokenInfo

    from app.azure.context import Azure
    from app.identity.identity import Identity

METHODS = {"entra": "AAD", "token": "Token"}
"""ARM's word for a profile's `auth`."""
KUBECONFIG_LIMIT = 1 << 20
"""Bytes of a kubeconfig; one has three thousand."""
TOKEN_LIMIT = 8 << 10
"""Characters of the relay's token; one has three hundred."""

_END_OF_TIME = 253_402_300_800
"""The year 10000, in POSIX seconds: beyond it no calendar of Python's goes."""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_CONNECTION = re.compile(r"[A-Za-z0-9][\w./~-]{0,1023}", re.ASCII)


class RelayCredential(Record):
    """What a local proxy is registered with."""

    kubeconfig: bytes = field(repr=False)
    """As ARM gave it, decoded."""
    relay: str
    """The relay's namespace, without its suffix."""
    hybrid_connection: str
    token: Secret = field(repr=False)
    """A SharedAccessSignature that may send to this connection."""
    expires_at: float
    """POSIX seconds."""
    correlation_id: str = ""
    """Under which ARM knows the request."""


class IdentityCredential:
    """An `Identity` in the form in which Microsoft's asynchronous libraries ask for tokens (AsyncTokenCredential)."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def get_token(self, *scopes: str, claims: str | None = None, **_: Any) -> SdkToken:
        """As the protocol says. Raises SignInError."""
        from azure.core.credentials import AccessToken

        token = await self._identity.token(scopes[0], fresh=claims is not None, claims=claims)
        return AccessToken(token.value.reveal(), int(token.expires_at))

    async def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        """As the protocol says. Raises SignInError."""
        from azure.core.credentials import AccessTokenInfo

        token = await self.get_token(*scopes, claims=(options or {}).get("claims"))
        return AccessTokenInfo(token.token, token.expires_on)

    async def close(self) -> None:
        """The identity is not ours to end."""

    async def __aenter__(self) -> IdentityCredential:
        return self

    async def __aexit__(self, *_: object) -> None:
        """The identity is not ours to end."""


async def list_user_credential(
    azure: Azure, arc_id: str, *, auth: str, correlation_id: str = ""
) -> RelayCredential:
    """A new credential of the relay. `auth` is the profile's (`entra` or `token`).

    Raises JumpdeckError: SignInError for 401 and 403 (exit 4), RouteError for the rest (exit 5; 429, 5xx and a network
    that fails are TRANSIENT, and were tried again already).
    """
    correlation_id = correlation_id or str(uuid.uuid4())
    what = f"POST {arc_id}/listClusterUserCredential"
    try:
        body = await _post(azure, arc_id, METHODS[auth], correlation_id, what)
    except JumpdeckError as error:
        raise failures.of_credential(error, arc_id) from error
    return read(body, what, correlation_id)


async def _post(azure: Azure, arc_id: str, method: str, correlation_id: str, what: str) -> dict[str, Any]:
    parts = part_of(arc_id, "subscriptions"), part_of(arc_id, "resourceGroups"), name_of(arc_id)
    if not all(parts):
        raise ProfileError("That is not an ARM id", clean(arc_id), "It begins with /subscriptions/.",
                           code="JD-ARM-ID")  # fmt: skip
    subscription, group, name = parts
    async with azure.arm.lend(what) as lent:
        await asyncio.to_thread(_load)
        from azure.core.exceptions import AzureError
        from azure.mgmt.hybridkubernetes.aio import ConnectedKubernetesClient
        from azure.mgmt.hybridkubernetes.models import ListClusterUserCredentialProperties

        client = ConnectedKubernetesClient(
            IdentityCredential(azure.identity), subscription, lent.base_url,
            credential_scopes=[azure.endpoints.arm_scope], policies=lent.policies,
            transport=lent.transport,
        )  # fmt: skip
        asked = ListClusterUserCredentialProperties(authentication_method=method, client_proxy=True)
        headers = {"x-ms-client-request-id": str(uuid.uuid4()), "x-ms-correlation-request-id": correlation_id}
        try:
            # As a stream: its body is read by our pipeline, which knows a limit.
            await client.connected_cluster.list_cluster_user_credential(
                group, name, asked, headers=headers, stream=True, call=lent.call
            )
        except AzureError as error:  # what the library itself refuses to send, and good statuses that it does not know
            raise from_sdk(error, what) from error
        return lent.answer()


def _load() -> None:
    import azure.mgmt.hybridkubernetes.aio
    import azure.mgmt.hybridkubernetes.models  # noqa: F401


def read(body: dict[str, Any], what: str, correlation_id: str = "") -> RelayCredential:
    """The credential in ARM's answer. Raises RouteError (JD-ARM-ANSWER) when it lacks something; never quotes it."""
    found = objects(body, "kubeconfigs")
    value = text(found[0], "value") if found else ""
    if not value:
        raise bad_shape(what, "it holds no kubeconfig")
    try:
        kubeconfig = base64.b64decode("".join(value.split()), validate=True)
        kubeconfig.decode()
    except (binascii.Error, ValueError):
        raise bad_shape(what, "its kubeconfig is not base64 of a text") from None
    if not kubeconfig.strip() or len(kubeconfig) > KUBECONFIG_LIMIT:
        raise bad_shape(what, "its kubeconfig is empty" if not kubeconfig.strip() else "its kubeconfig is too large")
    relay = inner(body, "hybridConnectionConfig")
    if not relay:
        raise bad_shape(what, "it names no relay (hybridConnectionConfig)")
    namespace, connection, token = text(relay, "relay"), text(relay, "hybridConnectionName"), text(relay, "token")
    ends = number(relay, "expirationTime")
    if not _NAME.fullmatch(namespace):
        raise bad_shape(what, "its relay's name is none")
    if not _CONNECTION.fullmatch(connection):
        raise bad_shape(what, "its hybridConnectionName is none")
    if not token or len(token) > TOKEN_LIMIT or not token.isascii() or not token.isprintable():
        raise bad_shape(what, "its relay's token is none")
    if ends is None or not 0 < ends < _END_OF_TIME:
        raise bad_shape(what, "it does not say when the relay's token ends (expirationTime, in seconds)")
    if ends <= time.time():
        raise bad_shape(what, "the relay's token has ended already: check this computer's clock")
    return RelayCredential(kubeconfig, namespace, connection, Secret(token), float(ends), correlation_id)
