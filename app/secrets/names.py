"""Which secrets are stored, and where: names only, no values (`secrets.json` in the state folder, 0600)."""

from __future__ import annotations

import json
from pathlib import Path

from app.errors import ProfileError
from app.files import lock, read_private, write_private

MAX_NAMES = 1_000
"""Names in the list; each has at most a path or a host in it."""
MAX_BYTES = 1 << 20


class StoredNames:
    """The list of names. Blocks: use it off the loop. Raises ProfileError when the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> dict[str, str]:
        """Name to place."""
        try:
            data = read_private(self._path, limit=MAX_BYTES, what="list of stored secrets")
        except ProfileError as error:
            if error.code == "JD-PROFILE-MISSING":
                return {}
            raise
        try:
            stored = json.loads(data)["stored"]
            return {str(name): str(place) for name, place in stored.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {}  # a list that cannot be read names nothing: each secret is asked for again and stored anew

    def place(self, name: str) -> str | None:
        """Where a secret is kept, or None."""
        return self.all().get(name)

    def add(self, name: str, place: str) -> None:
        """Note a secret."""
        self._change(name, place)

    def drop(self, name: str) -> None:
        """Forget a name; an unknown one is no error."""
        self._change(name, None)

    def _change(self, name: str, place: str | None) -> None:
        with lock(self._path):
            stored = self.all()
            if stored.get(name) == place:
                return
            stored.pop(name, None)
            if place is not None:
                if len(stored) >= MAX_NAMES:
                    raise ProfileError(
                        "Too many secrets are stored", f"{MAX_NAMES} is the most", "Remove some: jumpdeck secrets list",
                        code="JD-SECRET-COUNT",
                    )  # fmt: skip
                stored[name] = place
            text = json.dumps({"version": 1, "stored": dict(sorted(stored.items()))}, indent=2, ensure_ascii=False)
            write_private(self._path, text.encode("utf-8", "backslashreplace") + b"\n")
