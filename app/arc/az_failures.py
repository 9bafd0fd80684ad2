"""What az says when its proxy ends, as failures with a next step. Its words are redacted before they come here.

Codes AZK8S08xx and the messages: extension connectedk8s (azure-arc.md §2.8). Exit 3: what does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from app.arc.az_folders import EXTENSION, offline_remedy
from app.arc.failures import of_credential
from app.arc.program import LAYER
from app.errors import JumpdeckError, Recovery, RouteError, SignInError
from app.identity.failures import from_aadsts, words
from app.identity.source import About
from app.process_group import how_ended
from app.text import prose

NOT_FOUND_EXIT = 3
"""az's exit code of ResourceNotFoundError alone."""
_SAID_LIMIT = 600
"""Characters of az's words in an error."""
_NOISE = re.compile(r"^(WARNING|INFO|DEBUG):|experimental|preview|is listening on port|Press Ctrl\+C|^\s*$", re.I)
_AADSTS = re.compile(r"AADSTS(\d{4,7})")


class _Asked:
    """Whom az was asked about."""

    def __init__(self, arc_id: str, about: About) -> None:
        self.arc_id, self.about = arc_id, about


def of_end(code: int, lines: Sequence[str], arc_id: str, about: About) -> JumpdeckError:
    """az has ended by itself: exit code, its last (redacted) lines, the cluster, and the sign-in for its commands."""
    said = _said(lines)
    asked = _Asked(arc_id, about)
    if found := _AADSTS.search(said):
        return from_aadsts(int(found.group(1)), words(said), about)
    if code == NOT_FOUND_EXIT:
        return _not_found(said, asked)
    for shape, make in _RULES:
        if shape.search(said):
            return make(said, asked)
    return _error("JD-ARC-AZ-ENDED", f"az connectedk8s proxy has ended ({how_ended(code)})", said or "it said nothing",
                  "It is started again.", Recovery.TRANSIENT)  # fmt: skip


def _said(lines: Sequence[str]) -> str:
    told = [line.removeprefix("ERROR: ") for line in lines if not _NOISE.search(line)]
    return prose(" ".join(told)[-_SAID_LIMIT:], _SAID_LIMIT)


def _error(code: str, title: str, detail: str, hint: str, recovery: Recovery) -> RouteError:
    return RouteError(title, detail, hint, code=code, layer=LAYER, recovery=recovery)


def _forbidden(said: str, asked: _Asked) -> JumpdeckError:
    plain = RouteError("Azure does not allow it", said, "Ask an administrator for a role that allows it.",
                       code="JD-ARM-FORBIDDEN", layer="arm")  # fmt: skip
    return of_credential(plain, asked.arc_id)


def _not_found(said: str, asked: _Asked) -> JumpdeckError:
    plain = RouteError("The resource is not there", said, "Check the ARM id.", code="JD-ARM-NOT-FOUND", layer="arm")
    return of_credential(plain, asked.arc_id)


def _login(said: str, asked: _Asked) -> JumpdeckError:
    tenant = f" --tenant {asked.about.tenant}" if asked.about.tenant else ""
    return SignInError("The Azure CLI is not signed in", said, f"Run: az login{tenant}", code="JD-SIGN-IN-AZ-LOGIN",
                       recovery=Recovery.NEEDS_PERSON)  # fmt: skip


def _no_extension(said: str, asked: _Asked) -> JumpdeckError:
    return _error(
        "JD-ARC-AZ-EXTENSION", f"az does not know the extension {EXTENSION}", said,
        f"Install it: az extension add --name {EXTENSION}. {offline_remedy()}", Recovery.NEEDS_PERSON,
    )  # fmt: skip


def _no_download(said: str, asked: _Asked) -> JumpdeckError:
    return _error(
        "JD-ARC-AZ-DOWNLOAD", "az cannot get the Arc proxy program", said,
        "az takes it from mcr.microsoft.com. Without internet: bring the file from a computer whose az has it in "
        "~/.clientproxy, and set arc-proxy = \"PATH\" in the profile.", Recovery.TRANSIENT,
    )  # fmt: skip


def _port(said: str, asked: _Asked) -> JumpdeckError:
    return _error("JD-ARC-PORT", "Another program has the port of az's proxy", said,
                  "A new pair of ports is taken at the next try.", Recovery.TRANSIENT)  # fmt: skip


def _private_link(said: str, asked: _Asked) -> JumpdeckError:
    return _error("JD-ARC-PRIVATE-LINK", "Cluster connect is not available while private link is enabled", said,
                  "Use another way in (SSH, VPN, Bastion), or have private link switched off.",
                  Recovery.PERMANENT)  # fmt: skip


def _identity(said: str, asked: _Asked) -> JumpdeckError:
    return SignInError(
        "az gets no proof-of-possession token with this sign-in", said,
        'Sign in to az as a person or a service principal, or use auth = "token" in the cluster.',
        code="JD-SIGN-IN-POP",
    )  # fmt: skip


_RULES: tuple[tuple[re.Pattern[str], Callable[[str, _Asked], JumpdeckError]], ...] = (
    (re.compile(r"supported MSI token|managed identity.*(?:pop|not supported)", re.I), _identity),
    (re.compile(r"private link", re.I), _private_link),
    (re.compile(r"az login|az account set|ExpiredAuthenticationToken|InvalidAuthenticationToken"
                r"|AuthenticationFailed|\b401\b|Unauthorized|no subscription found|not logged in", re.I), _login),
    (re.compile(r"AuthorizationFailed|LinkedAuthorizationFailed|\bForbidden\b|\b403\b"
                r"|does not have authorization|RequestDisallowedByPolicy", re.I), _forbidden),
    (re.compile(r"ResourceNotFound|ResourceGroupNotFound|SubscriptionNotFound|\(NotFound\)|\b404\b"
                r"|doesn't exist in cloud|could not be found", re.I), _not_found),
    (re.compile(r"misspelled or not recognized|requires the extension|unrecognized arguments|not in an? .*az.* command"
                r"|Unable to load extension|extension .*not (?:found|installed)", re.I), _no_extension),
    (re.compile(r"AZK8S0800|failed to download|download.*(?:proxy|executable)|mcr\.", re.I), _no_download),
    (re.compile(r"AZK8S0801|already in use", re.I), _port),
)
"""The first that fits wins: ARM words a missing sign-in as 401 and a missing role as 403 in the same sentence."""
