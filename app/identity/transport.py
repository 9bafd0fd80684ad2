"""HTTPS for azure-identity's blocking classes: our trust, our proxy, nothing from the environment behind our back."""

from __future__ import annotations

import ssl
from typing import Any

import requests
from azure.core.pipeline.transport import RequestsTransport
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from app.identity.source import LastAnswer
from app.program_log import keep_from_terminal

CONNECT_LIMIT = 10.0
"""Seconds to connect to a sign-in server."""
READ_LIMIT = 20.0
"""Seconds without a byte of an answer; Entra answers within two."""
ANSWER_LIMIT, ANSWER_PIECE = 1 << 20, 16 << 10
"""Bytes of an answer once inflated, and those read at a time; tokens and metadata have ten thousand."""
QUIET = ("azure", "msal", "msal_extensions", "urllib3", "requests", "charset_normalizer")
"""Loggers that are held at warnings and kept from the terminal: below that msal writes device codes (S-09)."""


class _Adapter(HTTPAdapter):
    """One TLS context for servers and for what is behind proxies; `requests` alone knows only bundles in files."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.abandoned = False
        """Nobody waits for what still runs over it: its next request fails, so that its thread ends."""
        self.last: LastAnswer | None = None
        super().__init__(max_retries=Retry(total=False, redirect=False, raise_on_status=False))

    def init_poolmanager(self, *args: Any, **named: Any) -> None:
        super().init_poolmanager(*args, **named, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
        return super().proxy_manager_for(proxy, **named, ssl_context=self._context)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        """The hook that `requests` documents for a context of one's own."""
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        for name in ("ca_certs", "ca_cert_dir"):
            pool.pop(name, None)
        return host, {**pool, "ssl_context": self._context, "cert_reqs": "CERT_REQUIRED"}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """The context verifies, whatever is asked for."""
        conn.cert_reqs, conn.ca_certs, conn.ca_cert_dir = "CERT_REQUIRED", None, None

    def send(self, *args: Any, **named: Any) -> requests.Response:
        if self.abandoned:
            raise requests.ConnectionError("abandoned")
        self.last = None
        answer = super().send(*args, **named)
        self._read(answer)
        told = answer.headers
        self.last = LastAnswer(answer.status_code, told.get("Date", ""), told.get("Retry-After", ""))
        return answer

    def _read(self, answer: requests.Response) -> None:
        """The whole body, which `requests` would read without a limit; ends also when nobody waits any more."""
        body = bytearray()
        for piece in answer.iter_content(ANSWER_PIECE):
            body += piece
            if self.abandoned or len(body) > ANSWER_LIMIT:
                answer.close()
                raise requests.ConnectionError("abandoned" if self.abandoned else "the answer is far too long")
        answer._content = bytes(body)  # where `requests` itself keeps it


class Transport:
    """What a credential is built with; `options` are the keyword arguments that all of azure-identity takes."""

    def __init__(self, context: ssl.SSLContext, proxy: str | None) -> None:
        keep_from_terminal(*QUIET)
        self._adapter = _Adapter(context)
        self._session = requests.Session()
        self._session.trust_env = False  # no REQUESTS_CA_BUNDLE, no netrc, no proxy that we did not choose
        self._session.mount("https://", self._adapter)
        self._session.mount("http://", HTTPAdapter())  # managed identity: a link-local address
        if proxy is not None:
            self._session.proxies = {"https": proxy}
        self.options: dict[str, Any] = {
            "transport": RequestsTransport(
                session=self._session, session_owner=False,
                connection_timeout=CONNECT_LIMIT, read_timeout=READ_LIMIT,
            ),
            "logging_enable": False,
            "enable_support_logging": False,
            # The session above us waits and tries again, and shows it; here only a broken connection is tried anew.
            "retry_total": 1, "retry_connect": 1, "retry_read": 1, "retry_status": 0, "retry_backoff_factor": 0.2,
        }  # fmt: skip

    @property
    def last(self) -> LastAnswer | None:
        """The last answer, when nothing was asked after it."""
        return self._adapter.last

    def close(self) -> None:
        """Close the connections. What still runs over it may end its request, and fails at the next one."""
        self._adapter.abandoned = True
        self._session.close()
