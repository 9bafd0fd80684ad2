"""The files of the lab's containers: the same in all, but for the host's name. Nothing can be written."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

CHUNK = 256 * 1024
"""Bytes that a program takes of a file at a time."""

BLOCK = 1024 * 1024
BIG_SIZE = 1024 * BLOCK
"""/data/big: 1 GiB. Every block of 1 MiB starts with its number (8 bytes), so that a lost or doubled one shows."""

BIG_SHA256 = "7b2a7496ed9014243dee2d596a357e3d4f83b1c52c1429da90765440257c12ec"
"""Of the whole of /data/big; a test under `make soak` reads it all."""

OS_RELEASE = 'PRETTY_NAME="Jumpdeck lab container"\nNAME="Jumpdeck lab"\nID=jumpdeck-lab\nVERSION_ID="1"\n'


@cache
def _block() -> memoryview:
    return memoryview(random.Random(20261).randbytes(BLOCK))


def big(size: int = BIG_SIZE) -> Iterator[bytes]:
    """The first `size` bytes of /data/big in pieces of at most CHUNK; made on the fly from one block."""
    block = _block()
    for start in range(0, size, CHUNK):
        at = start % BLOCK
        piece = block[at : at + min(CHUNK, size - start)]
        yield bytes(piece) if at else (start // BLOCK).to_bytes(8, "big")[: len(piece)] + piece[8:]


@dataclass(frozen=True)
class Files:
    """What can be read in one container. Paths are absolute and plain."""

    hostname: str
    _texts: dict[str, bytes] = field(init=False)

    def __post_init__(self) -> None:
        texts = {
            "/etc/hostname": f"{self.hostname}\n",
            "/etc/hosts": f"127.0.0.1\tlocalhost\n10.244.0.2\t{self.hostname}\n",
            "/etc/os-release": OS_RELEASE,
            "/data/big.sha256": f"{BIG_SHA256}  /data/big\n",
        }
        object.__setattr__(self, "_texts", {path: text.encode() for path, text in texts.items()})

    def names(self, folder: str) -> list[str]:
        """What stands in a folder, sorted. Raises FileNotFoundError or NotADirectoryError."""
        if folder == "/":
            return ["bin", "data", "etc", "root"]
        if folder in ("/bin", "/root"):
            return []
        names = sorted(path.rsplit("/", 1)[1] for path in self._paths() if path.rsplit("/", 1)[0] == folder)
        if not names:
            raise NotADirectoryError(folder) if folder in self._paths() else FileNotFoundError(folder)
        return names

    def _paths(self) -> tuple[str, ...]:
        return (*self._texts, "/data/big")

    def size(self, path: str) -> int:
        """Bytes of a file. Raises FileNotFoundError or IsADirectoryError."""
        if path == "/data/big":
            return BIG_SIZE
        if path in self._texts:
            return len(self._texts[path])
        self.names(path)
        raise IsADirectoryError(path)

    def read(self, path: str, most: int | None = None) -> Iterator[bytes]:
        """The file, or its first `most` bytes, in pieces. Raises FileNotFoundError or IsADirectoryError."""
        size = self.size(path) if most is None else min(most, self.size(path))
        return big(size) if path == "/data/big" else iter([self._texts[path][:size]])
