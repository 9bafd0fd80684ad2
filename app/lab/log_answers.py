"""Answers `GET pods/{name}/log` as an API server with a kubelet behind it does (recorded: `real-log-*`, `log-*`)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from aiohttp import web

from app.lab.log_files import Entry, LogFile, LogShelf
from app.lab.statuses import StatusError, bad_request
from app.lab.store import Object, Store

SECOND_NS = 1_000_000_000
"""Nanoseconds of a second."""

BATCH = 256
"""Entries that one step of an answer takes: 4 MiB at the very most."""

SINGLE = 32
"""Up to so many waiting entries go out as one HTTP chunk each, as recorded; a backlog is sent in one piece."""

_ACCEPTED = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/*", "*/*")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:[Zz]|([+-])(\d\d):(\d\d))")


@dataclass(frozen=True, slots=True)
class LogOptions:
    """The query parameters of a log request after Kubernetes' own checks. `since_ns` in nanoseconds, 0 for none."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail: int | None = None
    limit: int | None = None
    since_seconds: int | None = None
    since_time_ns: int | None = None

    def since_ns(self, now_ns: int) -> int:
        """The oldest stamp that the answer may hold."""
        if self.since_seconds is not None:
            return now_ns - self.since_seconds * SECOND_NS
        return self.since_time_ns or 0


def _flag(query: Mapping[str, str], name: str) -> bool:
    """Anything but "false" and "0" is true, even "maybe" (recorded: real-log-follow-bad)."""
    return name in query and query[name].lower() not in ("false", "0")


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    if not -(2**63) <= int(text) < 2**63:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": value out of range')
    return int(text)


def _moment_ns(query: Mapping[str, str], name: str) -> int | None:
    """A time cut to whole seconds: the API server hands it to the kubelet so (recorded: …-since-time-fraction)."""
    text = query.get(name)
    if not text:
        return None
    found = _TIME.fullmatch(text)
    if not found:
        raise bad_request(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"')
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise bad_request(f'parsing time "{text}": {error}') from error
    if found[7]:
        offset = timedelta(hours=int(found[8]), minutes=int(found[9]))
        moment = moment - offset if found[7] == "+" else moment + offset
    return int(moment.timestamp()) * SECOND_NS


def _cause(field: str, reason: str, message: str) -> dict[str, str]:
    return {"reason": f"FieldValue{reason}", "message": message, "field": field}


def _check(pod: str, query: Mapping[str, str], options: LogOptions) -> None:
    """422 with every wrong field, worded as recorded."""
    causes = []
    if options.tail is not None and options.tail < 0:
        causes.append(
            _cause("tailLines", "Invalid", f"Invalid value: {options.tail}: must be greater than or equal to 0")
        )
    if options.limit is not None and options.limit < 1:
        causes.append(_cause("limitBytes", "Invalid", f"Invalid value: {options.limit}: must be greater than 0"))
    if options.since_seconds is not None and options.since_time_ns is not None:
        text = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
        causes.append(_cause("[]", "Forbidden", text))
    elif options.since_seconds is not None and options.since_seconds < 1:
        text = f"Invalid value: {options.since_seconds}: must be greater than 0"
        causes.append(_cause("sinceSeconds", "Invalid", text))
    if "stream" in query:
        causes.append(_cause("stream", "Forbidden", "Forbidden: may not be specified"))
    if not causes:
        return
    each = [f"{cause['field']}: {cause['message']}" for cause in causes]
    what = each[0] if len(each) == 1 else f"[{', '.join(each)}]"
    details = {"name": pod, "kind": "PodLogOptions", "causes": causes}
    raise StatusError(422, "Invalid", f'PodLogOptions "{pod}" is invalid: {what}', details)


def parse_options(pod: str, query: Mapping[str, str]) -> LogOptions:
    """Read and check the query. Raises StatusError: 400 for what cannot be read, 422 for what may not be asked."""
    options = LogOptions(
        container=query.get("container", ""),
        follow=_flag(query, "follow"),
        previous=_flag(query, "previous"),
        timestamps=_flag(query, "timestamps"),
        tail=_number(query, "tailLines"),
        limit=_number(query, "limitBytes"),
        since_seconds=_number(query, "sinceSeconds"),
        since_time_ns=_moment_ns(query, "sinceTime"),
    )
    _check(pod, query, options)
    return options


def not_acceptable(accept: str) -> web.Response | None:
    """406 where no asked type fits: a log has to be asked for as JSON or `*/*` (recorded: log-accept-text)."""
    asked = [part.split(";")[0].strip().lower() for part in accept.split(",") if part.strip()]
    if not asked or any(kind in _ACCEPTED for kind in asked):
        return None
    body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    if any(kind in ("text/plain", "text/*") for kind in asked):
        body["message"] = f"only the following media types are accepted: {', '.join(_ACCEPTED[:3])}"
        body["reason"] = "NotAcceptable"
    else:
        kinds = ", ".join(("text/plain", *_ACCEPTED[:3]))
        body["message"] = f"406: Not Acceptable\n\nAvailable representations: {kinds}"
        body["reason"] = "NotAcceptable"
        body["details"] = {}
    body["code"] = 406
    text = msgspec.json.format(msgspec.json.encode(body), indent=2)
    return web.Response(status=406, body=text, headers={"Content-Type": "application/json"})


def _names(pod: Object) -> list[str]:
    spec = pod["spec"]
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [container["name"] for kind in kinds for container in spec.get(kind) or []]


def choose_container(pod: Object, asked: str) -> str:
    """The container meant. Raises StatusError 400 where none is named and there are several, or it is unknown."""
    name = pod["metadata"]["name"]
    if not asked:
        own = [container["name"] for container in pod["spec"]["containers"]]
        if len(own) == 1:
            return str(own[0])
        choice = " ".join(_names(pod))
        raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{choice}]")
    if asked not in _names(pod):
        raise bad_request(f"container {asked} is not valid for pod {name}")
    return asked


def _waiting(container: str, pod: str, reason: str) -> StatusError:
    words = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
    return bad_request(f'container "{container}" in pod "{pod}" is waiting to start: {words.get(reason, reason)}')


def choose_run(pod: Object, container: str, previous: bool) -> str:
    """The container ID whose log is meant, from the pod's status. Raises StatusError 400 as a kubelet does."""
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    found = [each for kind in kinds for each in status.get(kind) or [] if each["name"] == container]
    if not found:
        raise bad_request(f'container "{container}" in pod "{name}" is not available')
    state = found[0].get("state") or {}
    last = ((found[0].get("lastState") or {}).get("terminated") or {}).get("containerID", "")
    if previous:
        if not last:
            raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
        return str(last)
    if "running" in state:
        return str(found[0].get("containerID", ""))
    if "terminated" in state:
        own = state["terminated"].get("containerID") or last
        if not own:
            raise bad_request(f'container "{container}" in pod "{name}" is terminated')
        return str(own)
    if last:
        return str(last)
    raise _waiting(container, name, (state.get("waiting") or {}).get("reason", "ContainerCreating"))


class _Stamper:
    """Writes the stamps of consecutive entries; one per second of the calendar is worked out once."""

    def __init__(self) -> None:
        self._second, self._text = -1, b""

    def __call__(self, at_ns: int) -> bytes:
        second, nanos = divmod(at_ns, SECOND_NS)
        if second != self._second:
            self._second = second
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.").encode()
        return b"%s%09dZ " % (self._text, nanos)


class _Writer:
    """Turns entries into the bytes of an answer: stamps at line starts, `since`, and the byte limit."""

    def __init__(self, options: LogOptions, now_ns: int) -> None:
        self._since, self._stamps = options.since_ns(now_ns), options.timestamps
        self._left = options.limit
        self._middle = False
        self._stamp = _Stamper()

    @property
    def full(self) -> bool:
        """The byte limit is reached."""
        return self._left is not None and self._left <= 0

    def bytes_of(self, entry: Entry) -> bytes:
        if entry.at_ns < self._since:
            return b""
        text = entry.data if entry.partial else entry.data + b"\n"
        if self._stamps and not self._middle:
            text = self._stamp(entry.at_ns) + text
        self._middle = entry.partial
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
        return text


class KubeletLogs:
    """The log side of the emulated kubelets (`app.lab.store.LogBook`)."""

    def __init__(self, shelf: LogShelf, store: Store | None = None, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.shelf = shelf
        self._store = store
        self.clock_ns = clock_ns

    async def answer(self, request: web.Request, pod: Object) -> web.StreamResponse:
        """The response for `pod`: an error, or the log as `text/plain`, never compressed."""
        if (refusal := not_acceptable(request.headers.get("Accept", ""))) is not None:
            return refusal
        options = parse_options(pod["metadata"]["name"], request.query)
        container = choose_container(pod, options.container)
        if not pod["spec"].get("nodeName"):
            return web.Response(status=204)
        self._check_node(pod, container, request)
        run = choose_run(pod, container, options.previous)
        log = self.shelf.file(run)
        response = web.StreamResponse(headers={"Content-Type": "text/plain", "Cache-Control": "no-cache, private"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        if log is None:
            await response.write(f"unable to retrieve container logs for {run}".encode())
        else:
            await self._send(response, log, options)
        await response.write_eof()
        return response

    def running(self, pod: Object, container: str) -> LogFile | None:
        """The log of the container's newest run, or None."""
        return self.shelf.newest(pod["metadata"]["uid"], container)

    def _check_node(self, pod: Object, container: str, request: web.Request) -> None:
        """A node whose object is gone gives 404, one that is down 500 (recorded: log-node-gone, log-node-down)."""
        name = pod["spec"]["nodeName"]
        if self._store is None or not self._store.list("nodes"):
            return
        node = self._store.get("nodes", "", name)
        if node is None:
            raise StatusError(404, "NotFound", f'pods "{name}" not found', {"name": name, "kind": "pods"})
        ready = [each for each in node["status"].get("conditions", []) if each["type"] == "Ready"]
        if ready and ready[0]["status"] != "True":
            meta, address = pod["metadata"], node["status"]["addresses"][0]["address"]
            query = request.query_string.replace(f"container={container}", "").strip("&")
            path = f"containerLogs/{meta['namespace']}/{meta['name']}/{container}{'?' + query if query else ''}"
            where = f"{address}:10250"
            raise StatusError(500, "", f'Get "https://{where}/{path}": dial tcp {where}: connect: connection refused')

    async def _send(self, response: web.StreamResponse, log: LogFile, options: LogOptions) -> None:
        writer = _Writer(options, self.clock_ns())
        position, last = log.start_of(options.tail), log.end
        interruptions = log.interruptions
        follow = options.follow and not options.previous
        with log.reader() as news:
            while not writer.full:
                news.clear()
                most = BATCH if follow else min(BATCH, last - position)
                position = max(position, log.first)
                entries = log.read(position, most)
                position += len(entries)
                await self._write(response, [text for entry in entries if (text := writer.bytes_of(entry))], follow)
                if entries:
                    continue
                if not follow or log.ended or log.interruptions != interruptions:
                    return
                await news.wait()

    @staticmethod
    async def _write(response: web.StreamResponse, texts: list[bytes], singly: bool) -> None:
        if singly and len(texts) <= SINGLE:
            for text in texts:
                await response.write(text)
        elif texts:
            await response.write(b"".join(texts))
            await asyncio.sleep(0)  # a long answer shares the loop with the others
