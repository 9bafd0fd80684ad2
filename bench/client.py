"""An API client of the mock server without a profile in front of it, and a link that is always up."""

from __future__ import annotations

import ssl

from app.cluster.access import Access, NoCredentials
from app.cluster.api import ApiClient
from app.errors import JumpdeckError
from app.routes.direct import DirectDialer


def api_client(port: int) -> ApiClient:
    """A client of the mock server on this port."""
    access = Access(
        server=f"http://127.0.0.1:{port}", host="127.0.0.1", port=port, tls_name="127.0.0.1",
        context_factory=ssl.create_default_context, credentials=NoCredentials(),
    )  # fmt: skip
    return ApiClient(access, DirectDialer())


class UpLink:
    """A session that is always up."""

    async def wait_up(self) -> None:
        """Return at once."""

    def report(self, error: JumpdeckError) -> None:
        """A failure would make the figure worthless."""
        raise error

    def alive(self) -> None:
        """Nothing to do."""
