"""Reads the recorded answers of a real Kubernetes API server in `tests/recorded/` (its README has the format)."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded"


@dataclass(frozen=True)
class Recording:
    """One recorded request with its answer."""

    case: str
    raw: dict[str, Any]

    @property
    def request(self) -> dict[str, Any]:
        return self.raw["request"]

    @property
    def response(self) -> dict[str, Any]:
        return self.raw["response"]

    @property
    def status(self) -> int:
        return int(self.response["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.response["headers"]}

    @property
    def body(self) -> bytes:
        """The body after removing chunked framing and, where it was compressed, gzip."""
        body = base64.b64decode(self.response.get("body_base64") or "")
        if not body and self.response.get("stream"):
            body = b"".join(self.chunks)
        return gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body

    @property
    def chunks(self) -> list[bytes]:
        """For streams: the body as it arrived, one entry per HTTP chunk."""
        return [base64.b64decode(piece["data_base64"]) for piece in self.response.get("stream") or []]

    def json(self) -> Any:
        return json.loads(self.body)


@cache
def load(case: str) -> Recording:
    """The recording of one case, by its name in index.json."""
    for path in (RECORDED / f"{case}.json", RECORDED / f"{case}.json.gz"):
        if path.exists():
            text = path.read_bytes()
            return Recording(case, json.loads(gzip.decompress(text) if path.suffix == ".gz" else text))
    raise FileNotFoundError(case)


def cases() -> list[str]:
    """The names of all recorded cases."""
    return [entry["case"] for entry in json.loads((RECORDED / "index.json").read_text())["cases"]]


def kubectl(name: str) -> str:
    """The exact standard output of a recorded kubectl run."""
    return (RECORDED / "kubectl-output" / name).read_text()
