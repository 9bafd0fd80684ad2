"""The vendor's program from a registry on loopback: what may be installed, what is refused, what goes on later."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import stat
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from app import audit
from app.arc.consent import fetch_agreed
from app.arc.download import download
from app.arc.program import NEWEST, Program, find_program, this_platform
from app.arc.unpacking import unpack
from app.asking import ConsentQuestion
from app.errors import Recovery, RouteError
from tests.audit_lines import records
from tests.fakes import Consenting
from tests.tls_servers import Pair, api_server, authority, unused_port
from tests.web_proxy import web_proxy

NAME = this_platform().file_name(NEWEST)
REPOSITORY = this_platform().repository
PROGRAM = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(256)) * 4

Member = tuple[str, bytes | str, bytes]
"""Name, contents (or the target of a link), and type."""


def archive(*members: Member) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, contents, kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if isinstance(contents, str):
                info.linkname = contents
                tar.addfile(info)
            else:
                info.size = len(contents)
                tar.addfile(info, io.BytesIO(contents))
    return gzip.compress(packed.getvalue(), 1, mtime=0)


def file(name: str, contents: bytes = b"x") -> Member:
    return name, contents, tarfile.REGTYPE


GOOD = archive(("proxy", b"", tarfile.DIRTYPE), file("proxy/LICENSE.txt", b"licence"), file("proxy/arcProxy", PROGRAM),
               file("proxy/ThirdPartyNotice.txt", b"notice"))  # fmt: skip


class Registry:
    """One program in a registry that sends its blobs by way of another address, as the vendor's does."""

    def __init__(self, blob: bytes = GOOD) -> None:
        self.blob = blob
        self.digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        self.asked: list[str] = []
        self.cut_after: int | None = None
        """Bytes of the file after which the connection breaks off."""
        self.ranges = True
        self.manifest: dict[str, object] = {
            "schemaVersion": 2, "layers": [{"mediaType": "application/x", "digest": self.digest, "size": len(blob)}],
        }  # fmt: skip

    async def answer(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Range", "")
        self.asked.append(f"{request.path} {given}".rstrip())
        if request.path == f"/v2/{REPOSITORY}/manifests/{NEWEST}":
            body = json.dumps(self.manifest).encode()
            named = f"sha256:{hashlib.sha256(body).hexdigest()}"
            return web.Response(body=body, headers={"Docker-Content-Digest": named})
        if request.path == f"/v2/{REPOSITORY}/blobs/{self.digest}":
            return web.Response(status=307, headers={"Location": "/data?signed=1"})
        if request.path != "/data":
            return web.Response(status=404)
        start = int(given.removeprefix("bytes=").removesuffix("-")) if given and self.ranges else 0
        response = web.StreamResponse(status=206 if start else 200)
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(self.blob) - 1}/{len(self.blob)}"
        response.content_length = len(self.blob) - start
        await response.prepare(request)
        await response.write(self.blob[start : self.cut_after])
        if self.cut_after is not None and request.transport is not None:
            request.transport.close()
        return response


@asynccontextmanager
async def serving(handler: Callable[..., object], pair: Pair | None = None) -> AsyncIterator[str]:
    async with api_server(handler, pair) as port:  # type: ignore[arg-type]
        yield f"https://127.0.0.1:{port}"


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority().pem)
    return path


async def failing(url: str, ca: Path, *, limit: float = 20.0, proxy: str | None = None) -> RouteError:
    with pytest.raises(RouteError) as caught:
        await download(registry=url, ca_file=ca, pause=0.0, limit=limit, proxy=proxy)
    assert caught.value.layer == "arc" and caught.value.exit_code == 5
    assert find_program() is None
    return caught.value


def kept(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "state" / "arc-proxy").iterdir() if not path.name.endswith(".lock"))


async def test_it_is_installed_for_us_alone_and_fetched_once(tmp_path: Path, ca: Path) -> None:
    registry, seen = Registry(), list[tuple[int, int]]()

    def progress(here: int, of: int) -> None:
        seen.append((here, of))

    async with serving(registry.answer) as url:
        one, two = await asyncio.gather(*(download(registry=url, ca_file=ca, progress=progress) for _ in range(2)))
    folder = tmp_path / "state" / "arc-proxy"
    assert one == two == find_program() == Program(folder / NAME, NEWEST, "own")
    assert registry.asked == [f"/v2/{REPOSITORY}/manifests/{NEWEST}", f"/v2/{REPOSITORY}/blobs/{registry.digest}",
                              "/data"]  # fmt: skip
    assert one.path.read_bytes() == PROGRAM and stat.S_IMODE(one.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert kept(tmp_path) == [NAME, f"{NAME}.LICENSE.txt", f"{NAME}.ThirdPartyNotice.txt"]
    assert seen[-1] == (len(GOOD), len(GOOD)) and sorted(seen) == seen


async def test_on_yes_it_is_fetched_from_where_the_question_says_and_put_on_record(ca: Path) -> None:
    person, registry = Consenting(True), Registry()
    async with serving(registry.answer) as url:
        program = await fetch_agreed(person, registry=url, ca_file=ca)
    assert program == find_program() and program is not None and program.path.read_bytes() == PROGRAM
    (question,) = person.asked
    assert isinstance(question, ConsentQuestion) and not question.default and question.yes == "download it"
    assert f"{url.removeprefix('https://')}/{REPOSITORY}" in " ".join(question.lines)
    (told,) = records()
    facts = told["facts"]
    assert told["event"] == "arc-program.downloaded" and facts["sha256"] == hashlib.sha256(PROGRAM).hexdigest()
    assert (facts["program"], facts["version"], facts["registry"]) == (str(program.path), NEWEST, url)
    assert audit.verify(audit.audit_dir()) == []


@pytest.mark.parametrize("ranges", [True, False])
async def test_one_that_was_cut_off_goes_on_where_it_stood(tmp_path: Path, ca: Path, ranges: bool) -> None:
    registry = Registry()
    registry.cut_after = 1000
    async with serving(registry.answer) as url:
        error = await failing(url, ca)
        assert error.code == "JD-ARC-DOWNLOAD" and error.transient
        (part,) = kept(tmp_path)
        assert part.endswith(".part") and (tmp_path / "state" / "arc-proxy" / part).read_bytes() == GOOD[:1000]
        registry.asked.clear()
        registry.cut_after, registry.ranges = None, ranges
        await download(registry=url, ca_file=ca)
    assert registry.asked[-1] == "/data bytes=1000-"
    assert find_program() is not None and part not in kept(tmp_path)


async def test_what_lies_there_from_before_is_part_of_what_is_checked(tmp_path: Path, ca: Path) -> None:
    registry = Registry()
    registry.cut_after = 1000
    async with serving(registry.answer) as url:
        await failing(url, ca)
        part = tmp_path / "state" / "arc-proxy" / kept(tmp_path)[0]
        part.write_bytes(b"?" + GOOD[1:1000])
        registry.cut_after = None
        error = await failing(url, ca)
        assert error.code == "JD-ARC-DIGEST" and registry.digest in error.detail and kept(tmp_path) == []
        await download(registry=url, ca_file=ca)


@pytest.mark.parametrize("blob", [GOOD[:-1] + b"?", GOOD + b"more"], ids=["other", "longer"])
async def test_what_is_not_what_was_announced_is_thrown_away(tmp_path: Path, ca: Path, blob: bytes) -> None:
    registry = Registry()
    registry.blob = blob
    async with serving(registry.answer) as url:
        error = await failing(url, ca)
    assert error.code == "JD-ARC-DIGEST" and not error.transient and kept(tmp_path) == []


LINK, SYMLINK = tarfile.LNKTYPE, tarfile.SYMTYPE


@pytest.mark.parametrize("members", [
    (file("p/LICENSE.txt"),),
    (file("arcProxy"),),
    (file("p/q/arcProxy"),),
    (file("../arcProxy"),),
    (file("/arcProxy"),),
    (file("p/arcProxy"), file("p/arcProxy2")),
    (file("p/arcProxy"), file("p/README.md")),
    (file("p/arcProxy"), file("p\\..\\LICENSE.txt")),
    (("p/arcProxy", "/bin/sh", SYMLINK),),
    (file("p/LICENSE.txt"), ("p/arcProxy", "p/LICENSE.txt", LINK)),
    (("p/arcProxy", b"", tarfile.FIFOTYPE),),
    (("p", "/tmp", SYMLINK), file("p/arcProxy")),
    (*((f"d{number}", b"", tarfile.DIRTYPE) for number in range(9)), file("p/arcProxy")),
    (("p", b"", tarfile.GNUTYPE_LONGNAME),) * 2000,
], ids=["none", "flat", "deep", "up", "absolute", "two", "other", "backslash", "symlink", "link", "pipe", "folder-link",
        "many", "nested"])  # fmt: skip
def test_an_archive_with_anything_unexpected_installs_nothing(tmp_path: Path, members: tuple[Member, ...]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (packed := tmp_path / "packed").write_bytes(archive(*members))
    with pytest.raises(RouteError) as caught:
        unpack(packed, folder / NAME)
    assert caught.value.code == "JD-ARC-ARCHIVE" and list(folder.iterdir()) == []


@pytest.mark.parametrize("data", [
    b"PK\x03\x04", GOOD[: len(GOOD) // 2], gzip.compress(b"no tar" * 999), gzip.compress(bytes(200_000)),
], ids=["zip", "half", "no tar", "bomb"])  # fmt: skip
def test_what_is_no_archive_or_grows_too_large_installs_nothing(tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (packed := tmp_path / "packed").write_bytes(data)
    with pytest.raises(RouteError) as caught:
        unpack(packed, folder / NAME, limit=100_000)
    assert caught.value.code == "JD-ARC-ARCHIVE" and list(folder.iterdir()) == []
    packed.write_bytes(GOOD)
    with pytest.raises(RouteError, match="not as expected"):
        unpack(packed, folder / NAME, limit=len(PROGRAM))
    assert list(folder.iterdir()) == []


def answering(status: int, body: bytes = b"", **headers: str) -> Callable[..., object]:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return handler


def layers(*found: object) -> bytes:
    return json.dumps({"layers": found}).encode()


DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(("handler", "said", "recovery"), [
    (answering(401), "HTTP 401", Recovery.PERMANENT),
    (answering(404), "HTTP 404", Recovery.PERMANENT),
    (answering(503), "HTTP 503", Recovery.TRANSIENT),
    (answering(200, b"<html>sign in</html>"), "no manifest", Recovery.PERMANENT),
    (answering(200, layers()), "no manifest", Recovery.PERMANENT),
    (answering(200, layers({"digest": DIGEST, "size": 9}, {})), "2 files", Recovery.PERMANENT),
    (answering(200, layers({"digest": "md5:1", "size": 9})), "no SHA-256", Recovery.PERMANENT),
    (answering(200, layers({"digest": DIGEST, "size": 1 << 40})), "bytes", Recovery.PERMANENT),
    (answering(200, b'{"layers": [{"digest": "", "size": 1e999}]}'), "no manifest", Recovery.PERMANENT),
    (answering(307, Location="https://[x"), "no address", Recovery.PERMANENT),
    (answering(200, bytes(2 << 20)), "too large", Recovery.PERMANENT),
    (answering(307, Location="http://127.0.0.1/x"), "no https address", Recovery.PERMANENT),
    (answering(307, Location="/again"), "redirects", Recovery.PERMANENT),
])  # fmt: skip
async def test_odd_answers_are_told(ca: Path, handler: Callable[..., object], said: str, recovery: Recovery) -> None:
    async with serving(handler) as url:
        error = await failing(url, ca)
    assert error.code == "JD-ARC-DOWNLOAD" and said in error.detail and error.recovery is recovery


async def test_a_part_of_absurd_bounds_is_not_taken_and_all_is_fetched(tmp_path: Path, ca: Path) -> None:
    registry = Registry()

    async def absurd(request: web.Request) -> web.StreamResponse:
        if request.path == "/data" and "Range" in request.headers:
            return web.Response(status=206, headers={"Content-Range": f"bytes 1-2/{'9' * 5000}"})
        return await registry.answer(request)

    async with serving(absurd) as url:
        registry.cut_after = 100
        await failing(url, ca)
        registry.cut_after = None
        program = await download(registry=url, ca_file=ca, pause=0.0)
    assert program.path.exists() and registry.asked[-1] == "/data"


async def test_a_manifest_other_than_the_named_one_is_refused(ca: Path) -> None:
    async with serving(answering(200, b"{}", **{"Docker-Content-Digest": DIGEST})) as url:
        assert (await failing(url, ca)).code == "JD-ARC-DIGEST"


async def test_without_a_way_to_the_registry_it_says_how_to_do_without(ca: Path) -> None:
    error = await failing(f"https://127.0.0.1:{unused_port()}", ca)
    assert error.transient and "~/.clientproxy" in error.hint and "arc-proxy" in error.hint
    assert "mcr.microsoft.com" in error.hint


async def test_one_that_answers_nothing_is_left_after_the_limit(ca: Path) -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(silent) as url:
        error = await failing(url, ca, limit=0.2)
    assert error.code == "JD-ARC-DOWNLOAD" and "0.2 s" in error.detail and error.transient


async def test_it_comes_through_the_profiles_proxy_and_by_a_trusted_certificate_only(ca: Path, tmp_path: Path) -> None:
    pair = authority().issue("registry.test")
    async with serving(Registry().answer, pair) as url, web_proxy() as (port, seen):
        named, proxy = url.replace("127.0.0.1", "registry.test"), f"http://127.0.0.1:{port}"
        error = await failing(url, ca)
        assert "ca-file" in error.hint and not error.transient  # a certificate of another name
        await download(registry=named, ca_file=ca, proxy=proxy)
    assert seen and all(request.startswith(b"CONNECT registry.test:") for request in seen)
    async with web_proxy(b"HTTP/1.1 407 Sign in\r\nContent-Length: 0\r\n\r\n") as (port, _):
        (tmp_path / "state" / "arc-proxy" / NAME).unlink()
        error = await failing(named, ca, proxy=f"http://me:sesame@127.0.0.1:{port}")
    assert "HTTP 407" in error.detail and "sesame" not in error.detail and f"127.0.0.1:{port}" in error.detail
