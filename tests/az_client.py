"""Drives a bastion host as the published az client does: requests, websocket-client, and blocking threads.

Nothing here is shared with the product or the lab: what these two libraries refuse, az refuses.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
import websocket

READ = 4096
"""Bytes that az takes from its local socket for one frame."""

LIMIT = 40.0
"""Seconds for one answer on a busy machine. (az itself has no limit.)"""

Tokens = dict[str, Any]


class AzClient:
    """One bastion host as az sees it; `ca` is given to both libraries."""

    def __init__(self, host: str, ca: Path, token: str) -> None:
        self.host, self.ca, self.token = host, str(ca), token

    def form(self, resource: str, port: int, **more: str | None) -> dict[str, str | None]:
        return {
            "resourceId": resource,
            "protocol": "tcptunnel",
            "workloadHostPort": str(port),
            "aztoken": self.token,
            "token": None,  # requests drops what is None
            **more,
        }

    def ask(self, form: dict[str, str | None], node: str = "", timeout: float = LIMIT) -> requests.Response:
        """The token exchange."""
        headers = {"X-Node-Id": node} if node else {}
        url = f"https://{self.host}/api/tokens"
        return requests.post(url, data=form, headers=headers, verify=self.ca, timeout=timeout)

    def exchange(self, resource: str, port: int, **more: str | None) -> Tokens:
        answer = self.ask(self.form(resource, port, **more))
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith("application/json")
        found: Tokens = answer.json()
        assert {"authToken", "nodeId", "websocketToken"} <= found.keys()
        return found

    def data_pod(self, body: dict[str, Any]) -> requests.Response:
        """What the Developer SKU is asked first."""
        return requests.post(f"https://{self.host}/api/connection", json=body, verify=self.ca, timeout=LIMIT)

    def open(self, tokens: Tokens, *, developer: bool = False) -> websocket.WebSocket:
        """The WebSocket, without a limit for reading as with az."""
        url = f"wss://{self.host}/webtunnelv2/{tokens['websocketToken']}?X-Node-Id={tokens.get('nodeId')}"
        if developer:
            url = f"wss://{self.host}/omni/webtunnel/{tokens['websocketToken']}"
        return websocket.create_connection(
            url,
            sockopt=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),),
            sslopt={"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": self.ca},
        )

    def delete(self, tokens: Tokens, timeout: float = LIMIT) -> int:
        url = f"https://{self.host}/api/tokens/{quote(tokens['authToken'])}"
        headers = {"X-Node-Id": tokens["nodeId"]}
        return requests.delete(url, headers=headers, verify=self.ca, timeout=timeout).status_code

    @staticmethod
    def hang_up(socket_: websocket.WebSocket) -> None:
        """Close, also when the host did so first: the library leaves its socket open then."""
        socket_.close()
        socket_.shutdown()

    @contextmanager
    def stream(self, resource: str, port: int) -> Iterator[socket.socket]:
        """A local socket that is carried to the target, with az's two threads; the session is deleted at the end."""
        tokens = self.exchange(resource, port)
        try:
            near, far = socket.socketpair()
            with near, far, Pump(far, self.open(tokens)):
                yield near
                near.close()
        finally:
            assert self.delete(tokens) in (200, 204, 404)


class Pump:
    """az's way of carrying bytes between a local socket and a WebSocket."""

    def __init__(self, local: socket.socket, remote: websocket.WebSocket) -> None:
        self._local, self._remote = local, remote
        self._threads = [
            threading.Thread(target=self._out, daemon=True),
            threading.Thread(target=self._in, daemon=True),
        ]

    def __enter__(self) -> Pump:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(LIMIT)
        self._remote.shutdown()
        assert not any(thread.is_alive() for thread in self._threads)

    def _out(self) -> None:
        with suppress(OSError, websocket.WebSocketException):
            while data := self._local.recv(READ):
                self._remote.send_binary(data)
            self._remote.send_close()

    def _in(self) -> None:
        with suppress(OSError, websocket.WebSocketException):
            while data := self._remote.recv():
                assert isinstance(data, bytes)  # a text message would be a str, which az cannot pass on
                self._local.sendall(data)
        with suppress(OSError):
            self._local.shutdown(socket.SHUT_RDWR)
