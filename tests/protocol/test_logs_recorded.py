"""Every recorded log answer of a real API server, read through the real client: at its own chunk borders and others."""

from __future__ import annotations

import itertools

import pytest

from app.cluster.log_follow import LogFollow, LogRequest
from app.cluster.log_lines import MAX_LINE
from app.errors import JumpdeckError, Recovery
from app.rows import MarkKind
from app.tasks import Backoff
from tests.protocol.log_world import Shown
from tests.protocol.pod_server import Answer, FakeLink, PodServer, Reply
from tests.recordings import Recording, cases, load

RECORDED = [case for case in cases() if "-log-" in f"-{case}" and not case.startswith(("403-", "405-", "ssar-"))]
STREAMS = [case for case in RECORDED if load(case).status == 200]
REFUSED = [case for case in RECORDED if load(case).status >= 400]


def answer(chunks: list[bytes], *, cut: bool = False) -> Answer:
    async def send(reply: Reply) -> None:
        await reply.start()
        for chunk in chunks:
            if chunk:
                await reply.chunk(chunk)
        if cut:
            reply.cut()
        else:
            await reply.end()

    return send


def borders(recording: Recording) -> list[list[bytes]]:
    """The chunks as recorded, then others: in one, in the middle of lines and stamps, and byte by byte when short."""
    body = recording.body
    found = [recording.chunks or [body], [body]]
    sizes = [5000, 1] if len(body) < 600 else [5000, max(len(body) // 90, 7)]
    found += [[body[at : at + size] for at in range(0, len(body), size)] for size in sizes]
    if len(body) < 150:
        found += [[body[:at], body[at:]] for at in range(1, len(body), 5)]
    return found


@pytest.mark.parametrize("case", STREAMS)
async def test_what_was_sent_is_what_is_delivered(case: str) -> None:
    recording = load(case)
    body = recording.body
    expected = body if body.endswith(b"\n") or not body else body + b"\n"
    note = body.startswith(b"unable to retrieve container logs for")
    for chunks in borders(recording):
        async with PodServer(answer(chunks)) as server:
            api = server.client()
            shown = Shown()
            try:
                await LogFollow(api, FakeLink(), LogRequest("real", "web", "app", follow=False)).run(shown)
            finally:
                await api.aclose()
        if note:
            assert shown.text == b""
            assert shown.kinds() == [MarkKind.NOTE]
        else:
            assert all(len(line) < MAX_LINE for line in body.splitlines())
            assert shown.text == expected
            assert shown.marks == []


@pytest.mark.parametrize("case", REFUSED)
async def test_a_refusal_is_one_error_with_a_next_step(case: str) -> None:
    recording = load(case)
    headers = "".join(f"{name}: {value}\r\n" for name, value in recording.headers.items() if name == "retry-after")

    async def refuse(reply: Reply) -> None:
        await reply.send(recording.body, recording.status, headers)

    async with PodServer(refuse) as server:
        api = server.client()
        try:
            with pytest.raises(JumpdeckError) as failure:
                await LogFollow(api, FakeLink(), LogRequest("real", "web", "app", follow=False)).run(Shown())
        finally:
            await api.aclose()
    error = failure.value
    assert error.code.startswith("JD-")
    assert error.title
    if recording.status in (429, 500, 503):
        assert error.recovery is Recovery.TRANSIENT, error.code


async def test_a_stream_cut_at_every_recorded_border_resumes_with_the_rest() -> None:
    """The server was killed in the middle of this one; whatever had come, the resume brings exactly the rest."""
    recording = load("log-server-killed")
    body = recording.body
    lines = body.splitlines(keepends=True)
    pod = (
        b'{"metadata": {"name": "web", "uid": "u", "resourceVersion": "1"}, "spec": {"containers": [{"name": "app"}],'
        b' "restartPolicy": "Never"}, "status": {"phase": "Running", "containerStatuses": [{"name": "app",'
        b' "containerID": "c", "state": {"%s": %s}}]}}'
    )

    first = len(lines[0])
    places = [*itertools.accumulate(len(line) for line in lines), *range(first, len(body), 61)]
    for place in places:
        asked = 0

        async def send(reply: Reply, place: int = place) -> None:
            nonlocal asked
            if not reply.path.endswith("/log"):
                await reply.send(pod % ((b"running", b"{}") if asked < 2 else (b"terminated", b'{"exitCode": 0}')))
                return
            asked += 1
            await answer([body[:place]] if asked == 1 else [body], cut=asked == 1)(reply)

        async with PodServer(*[send] * 12) as server:
            api = server.client()
            shown = Shown()
            quick = Backoff(base=0.001, floor=0.0)
            try:
                await LogFollow(api, FakeLink(), LogRequest("real", "web", "app"), backoff=quick).run(shown)
            finally:
                await api.aclose()
        assert shown.text == body, place
        assert MarkKind.GAP not in shown.kinds()
