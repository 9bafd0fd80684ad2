"""`jumpdeck sign-out PROFILE`: forget what Jumpdeck keeps of an Azure sign-in."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.profiles.model import Profile

_STAYS = {
    "azure-cli": "The sign-in of the Azure CLI itself stays; end it with: az logout",
    "broker": "The account stays signed in to Windows; remove it in its settings.",
    "browser": "The browser may still be signed in.",
    "device-code": "The browser in which the code was typed may still be signed in.",
    "service-principal": "Its stored secret stays; remove it with: jumpdeck secrets remove client-secret CLIENT_ID",
    "managed-identity": "The identity of this computer is not ours to end.",
    "environment": "The environment's own variables stay.",
    "lab": "The lab signs its own profiles in.",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("profile", metavar="PROFILE")


def run(args: argparse.Namespace) -> int:
    """Sign out. Raises JumpdeckError."""
    from app.cli.frame import run_async
    from app.profiles.store import load

    return run_async(_sign_out(load().get(args.profile)))


async def _sign_out(profile: Profile) -> int:
    from app import audit
    from app.identity.identities import Identities
    from app.secrets.secret import SecretSource
    from app.text import clean

    identities = Identities(None, SecretSource(None))
    try:
        identity = identities.for_profile(profile)
        had = await identity.forget()
        about = identity.about
        audit.record("sign-out", kind=about.kind)
        what = "its tokens and the record of the account are removed" if had else "nothing of it was kept here"
        print(f"Signed out of {about.label}: {what}")  # noqa: T201
        if stays := _STAYS.get(about.kind):
            print(stays.replace("CLIENT_ID", clean(about.client_id)))  # noqa: T201
        return 0
    finally:
        await identities.aclose()
