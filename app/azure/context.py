"""What hops and clusters of Azure need: the identity, its cloud, and ARM. One per profile, made when first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.identity.clouds import CloudEndpoints
from app.records import Record

if TYPE_CHECKING:
    from app.azure.arm import Arm
    from app.identity.identity import Identity


class Azure(Record):
    """Azure as one profile sees it."""

    identity: Identity
    endpoints: CloudEndpoints
    arm: Arm
