"""A relay that holds every byte back for a while: a network far away, in a process of its own.

`python -m bench.delay --to PORT --milliseconds 20` prints `ready PORT` and relays connections to 127.0.0.1 until its
standard input ends; each direction takes that long, and there is no limit on bytes under way (a long fat line).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import deque

PIECE = 1 << 18


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Pass bytes on, each piece `seconds` after it came."""
    loop = asyncio.get_running_loop()
    waiting: deque[tuple[float, bytes]] = deque()
    came = asyncio.Event()

    async def deliver() -> None:
        while True:
            while not waiting:
                came.clear()
                await came.wait()
            due, data = waiting.popleft()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            if not data:
                writer.close()
                return
            writer.write(data)

    task = asyncio.ensure_future(deliver())
    try:
        while data := await reader.read(PIECE):
            waiting.append((loop.time() + seconds, data))
            came.set()
    except OSError:
        pass
    waiting.append((loop.time() + seconds, b""))
    came.set()
    await asyncio.wait({task})


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=int, required=True)
    parser.add_argument("--milliseconds", type=float, required=True)
    args = parser.parse_args()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", args.to, limit=PIECE)
        seconds = args.milliseconds / 1000
        await asyncio.gather(pump(reader, far_writer, seconds), pump(far_reader, writer, seconds))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=PIECE)
    sys.stdout.write(f"ready {server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
