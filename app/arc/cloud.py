"""How a local proxy is told which cloud it is in: the keys `cloud` and `cloudConfig` of its config.yml.

Source: az connectedk8s 1.11.2. `cloudConfig` is written only where ARM's metadata names data-plane endpoints, as
disconnected clouds do (Azure Local); there the relay has a suffix of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from app.azure.failures import bad_shape
from app.azure.fields import inner, text
from app.errors import JumpdeckError
from app.records import Record
from app.text import clean

if TYPE_CHECKING:
    from app.azure.context import Azure

METADATA_VERSION = "2022-09-01"
NAMES = {"public": "AZUREPUBLICCLOUD", "us-government": "AzureUSGovernmentCloud", "china": "AzureChinaCloud"}
"""The vendor's names of the built-in clouds."""
_NO_METADATA = ("JD-ARM-NOT-ARM", "JD-ARM-NOT-FOUND", "JD-ARM-REFUSED", "JD-ARM-FORBIDDEN")
"""An ARM without such a page, or whose page is a list of clouds: it names no data plane."""


class DataPlane(Record):
    """Endpoints of a disconnected cloud, as its ARM names them. Empty when not said."""

    relay_suffix: str
    """Without the leading dot."""
    login: str
    resource_manager: str
    notification: str = ""
    """The guest notification service's host or URL."""


async def data_plane(azure: Azure) -> DataPlane | None:
    """The data plane of a cloud of one's own, or None when it is like Azure's. Raises JumpdeckError."""
    if azure.endpoints.name in NAMES:
        return None
    what = "GET /metadata/endpoints"
    try:
        found = await azure.arm.get("/metadata/endpoints", METADATA_VERSION)
    except JumpdeckError as error:
        if error.code in _NO_METADATA and error.layer != "sign-in":
            return None
        raise
    if not isinstance(found.get("dataplaneEndpoints"), dict):
        return None
    suffix = text(inner(found, "suffixes"), "relayEndpointSuffix").lstrip(".")
    login = text(inner(found, "authentication"), "loginEndpoint")
    for value, name in ((suffix, "suffixes.relayEndpointSuffix"), (login, "authentication.loginEndpoint")):
        if not value or value != clean(value) or " " in value:
            raise bad_shape(what, f"it names data-plane endpoints without {name}")
    notification = text(inner(found, "dataplaneEndpoints"), "arcGlobalNotificationServiceEndpoint")
    return DataPlane(suffix, login, text(found, "resourceManager") or azure.endpoints.resource_manager, notification)


async def cloud_config(azure: Azure) -> Mapping[str, object]:
    """The keys `cloud` and, where it is needed, `cloudConfig`. Raises JumpdeckError."""
    name = azure.endpoints.name
    found: dict[str, object] = {"cloud": NAMES.get(name, name.upper())}
    if (plane := await data_plane(azure)) is not None:
        found["cloudConfig"] = {
            "resourceManagerEndpoint": plane.resource_manager,
            "serviceBusEndpointSuffix": plane.relay_suffix,
            "activeDirectoryEndpoint": plane.login,
        }
    return found
