"""What az said when it ended, as failures: what may be tried again, and what to do next."""

from __future__ import annotations

import pytest

from app.arc.az_failures import of_end
from app.errors import Recovery
from app.identity.source import About
from tests.az_proxy import ARC

PERMANENT, TRANSIENT, PERSON = Recovery.PERMANENT, Recovery.TRANSIENT, Recovery.NEEDS_PERSON
ARM = "ERROR: Http response error occured while making ARM request: "
ACTION = "Microsoft.Kubernetes/connectedClusters/listClusterUserCredential/action"


@pytest.mark.parametrize(
    ("code", "said", "found", "recovery", "hint"),
    [
        (1, f"{ARM}(AuthorizationFailed) The client 'x' does not have authorization to perform action '{ACTION}'",
         "JD-ARM-FORBIDDEN", PERMANENT, "Azure Arc Enabled Kubernetes Cluster User Role"),
        (1, f"{ARM}(ResourceNotFound) The Resource was not found.", "JD-ARM-NOT-FOUND", PERMANENT, "Check the"),
        (3, "ERROR: gone", "JD-ARM-NOT-FOUND", PERMANENT, "Check the subscription"),
        (1, f"{ARM}(ExpiredAuthenticationToken) The access token expiry is past.", "JD-SIGN-IN-AZ-LOGIN", PERSON,
         "az login --tenant contoso.com"),
        (1, "ERROR: Please run 'az login' to setup account.", "JD-SIGN-IN-AZ-LOGIN", PERSON, "az login"),
        (1, "ERROR: AADSTS70043: The refresh token has expired.", "JD-SIGN-IN-EXPIRED", PERSON, "az login"),
        (1, "ERROR: 'https://x' is not a supported MSI token audience", "JD-SIGN-IN-POP", PERMANENT, 'auth = "token"'),
        (1, "ERROR: You cannot connect: private link enabled", "JD-ARC-PRIVATE-LINK", PERMANENT, "other"),
        (2, "ERROR: 'connectedk8s' is misspelled or not recognized by the system.", "JD-ARC-AZ-EXTENSION", PERSON,
         "az extension add --source FILE.whl"),
        (1, "ERROR: [AZK8S0800] Failed to download proxy", "JD-ARC-AZ-DOWNLOAD", TRANSIENT, "arc-proxy"),
        (1, "ERROR: Port 47011 is already in use.", "JD-ARC-PORT", TRANSIENT, "next try"),
        (1, "ERROR: Proxy closed externally.", "JD-ARC-AZ-ENDED", TRANSIENT, "started again"),
        (1, f"{ARM}(InternalServerError) 500", "JD-ARC-AZ-ENDED", TRANSIENT, "started again"),
        (-9, "", "JD-ARC-AZ-ENDED", TRANSIENT, "started again"),
    ],
)  # fmt: skip
def test_how_az_ends(code: int, said: str, found: str, recovery: Recovery, hint: str) -> None:
    lines = ["This command is in preview and under development.", "Proxy is listening on port 40001", said]
    error = of_end(code, lines, ARC, About("azure-cli", tenant="contoso.com"))
    assert (error.code, error.recovery) == (found, recovery)
    assert hint in f"{error.detail} {error.hint}" and "preview" not in error.detail


def test_nothing_said_and_the_signal() -> None:
    error = of_end(-9, (), ARC, About("azure-cli"))
    assert (error.title, error.detail) == (
        "az connectedk8s proxy has ended (ended by SIGKILL)", "it said nothing",
    )  # fmt: skip
