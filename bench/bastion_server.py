"""The lab's bastion host in a process of its own, in front of a machine (port 22) and an API server (port 443).

`python -m bench.bastion_server --certificates FOLDER --machine PORT --cluster PORT [--milliseconds 300]` prints
`ready PORT` and serves until its standard input ends. Each HTTP answer, that of a deletion too, comes so much later.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from aiohttp import web

from app.lab import bastion_frames
from app.lab.bastion import Answer, BastionPlane
from app.lab.certificates import Certificates
from app.lab.door import HOST, ProtocolFactory, Reach
from app.routes import websocket_frames
from tests.bastion_world import AKS, TOKEN, VM


class SlowPlane(BastionPlane):
    """One whose answers take a while, as the real ones do. It has no door: who is measured is the client."""

    seconds = 0.0
    _port = 0

    async def __aenter__(self) -> BastionPlane:
        app = web.Application()
        app.router.add_post("/api/tokens", self._exchange)
        app.router.add_delete("/api/tokens/{token}", self._delete)
        app.router.add_get("/webtunnelv2/{token}", self._tunnel, allow_head=False)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, HOST, 0, ssl_context=self._tls).start()
        self._port = int(runner.addresses[0][1])
        return self

    @property
    def port(self) -> int:
        return self._port

    async def _exchange(self, request: web.Request) -> web.Response:
        await asyncio.sleep(self.seconds)
        return await super()._exchange(request)

    async def _delete(self, request: web.Request) -> web.Response:
        await asyncio.sleep(self.seconds)
        return await super()._delete(request)

    async def _tunnel(self, request: web.Request) -> Answer:
        await asyncio.sleep(self.seconds)
        return await super()._tunnel(request)


def to(port: int) -> Reach:
    """What connects with a port of this computer."""

    async def reach(factory: ProtocolFactory) -> None:
        await asyncio.get_running_loop().create_connection(factory, HOST, port)

    return reach


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--certificates", type=Path, required=True)
    parser.add_argument("--machine", type=int, default=0)
    parser.add_argument("--cluster", type=int, default=0)
    parser.add_argument("--milliseconds", type=float, default=0)
    args = parser.parse_args()
    folder = args.certificates
    tls = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key").server_context()
    targets = {VM: {22: to(args.machine)}, AKS: {443: to(args.cluster)}}
    websocket_frames.quicken()
    vars(bastion_frames)["unmask"] = lambda data, key: bytes(websocket_frames.mask(data, key))  # ten times as fast
    plane = SlowPlane(tls, {TOKEN: "somebody"}.get, targets)
    plane.seconds = args.milliseconds / 1000
    async with plane:
        sys.stdout.write(f"ready {plane.port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
