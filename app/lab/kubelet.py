"""The moving side of the practice cluster: containers start, write, crash and restart, as a kubelet reports it."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable

from app.lab.estate_pods import fill, find_status, first_status, settle
from app.lab.log_answers import SECOND_NS, KubeletLogs
from app.lab.log_files import FILE_LIMIT, STEP_NS, LogFile, LogShelf
from app.lab.store import Object, Store, stamp

EVENTS_KEPT = 1_000
"""Events kept in the store; older ones go, as after an hour in a real cluster."""


class Cluster:
    """The pods of the lab with their logs. Every change is seen at once by lists, watches and log follows.

    Times (`at`) are epoch seconds; without one the store's clock counts. One event loop only.
    """

    def __init__(self, store: Store, *, seed: int = 1, log_limit: int = FILE_LIMIT) -> None:
        self.store = store
        self.shelf = LogShelf(log_limit)
        self.logs = KubeletLogs(self.shelf, store)
        self.rng = random.Random(seed)
        self._events: list[tuple[str, str]] = []

    def add_namespace(self, name: str, created: float | None = None) -> None:
        """A namespace, when it is not there yet."""
        if self.store.get("namespaces", "", name) is None:
            when = stamp(self.store.clock() if created is None else created)
            meta = {"name": name, "creationTimestamp": when, "labels": {"kubernetes.io/metadata.name": name}}
            spec = {"finalizers": ["kubernetes"]}
            whole = {"kind": "Namespace", "apiVersion": "v1", "metadata": meta, "spec": spec}
            self.store.put("namespaces", {**whole, "status": {"phase": "Active"}})

    def add_pod(self, pod: Object, at: float | None = None) -> Object:
        """Add a pod; what is left out gets a sensible default. Without a status all its containers run at once."""
        now = self.store.clock() if at is None else at
        pod = fill(copy.deepcopy(pod), now)
        self.add_namespace(pod["metadata"]["namespace"])
        start = "status" not in pod
        if start:
            pod["spec"].setdefault("nodeName", "node-a")
            pod["status"] = first_status(pod, now)
        stored = self.store.put("pods", pod)
        meta = stored["metadata"]
        if not start:
            self._open_logs(stored)
            return stored
        for each in pod["spec"].get("initContainers") or []:
            self.start_container(meta["namespace"], meta["name"], each["name"], at=now)
            if each.get("restartPolicy") != "Always":
                self.end_container(meta["namespace"], meta["name"], each["name"], exit_code=0, at=now)
        for each in pod["spec"]["containers"]:
            self.start_container(meta["namespace"], meta["name"], each["name"], at=now)
        return self.pod(meta["namespace"], meta["name"])

    def _open_logs(self, pod: Object) -> None:
        """Empty logs for the runs that a pod brings in its status."""
        for kind in ("initContainerStatuses", "containerStatuses"):
            for each in pod["status"].get(kind) or []:
                runs = [each.get("lastState", {}).get("terminated", {}).get("containerID"), each.get("containerID")]
                for run in dict.fromkeys(run for run in runs if run):
                    self.shelf.start(pod["metadata"]["uid"], each["name"], run)
                if any(runs) and "running" not in each["state"]:
                    self.shelf.end(pod["metadata"]["uid"], each["name"], self._ns(None))

    def pod(self, namespace: str, name: str) -> Object:
        """The pod as it is now. Raises KeyError."""
        found = self.store.get("pods", namespace, name)
        if found is None:
            raise KeyError(f"{namespace}/{name}")
        return found

    def modify_pod(self, namespace: str, name: str, change: Callable[[Object], None]) -> Object:
        """Change a copy of the pod and store it. Raises KeyError."""
        return self.store.modify("pods", namespace, name, change)

    def delete_pod(self, namespace: str, name: str) -> None:
        """Remove a pod; its follows end in good order and its logs vanish. Raises KeyError."""
        uid = self.pod(namespace, name)["metadata"]["uid"]
        self.store.delete("pods", namespace, name)
        self.shelf.forget(uid, self._ns(None))

    def _ns(self, at: float | None) -> int:
        return time.time_ns() if at is None else round(at * SECOND_NS)

    def start_container(self, namespace: str, name: str, container: str, *, at: float | None = None) -> str:
        """Start a container (again); returns its new ID. Raises KeyError."""
        now = self.store.clock() if at is None else at
        run = f"containerd://{self.rng.getrandbits(256):064x}"

        def change(pod: Object) -> None:
            status = find_status(pod, container)
            if "terminated" in status["state"]:
                status["lastState"] = {"terminated": status["state"]["terminated"]}
            if status["lastState"]:
                status["restartCount"] += 1
            status.update({"state": {"running": {"startedAt": stamp(now)}}, "ready": True, "started": True})
            status.update({"containerID": run, "imageID": f"{status['image']}@sha256:{'6f' * 32}"})
            settle(pod, now)

        pod = self.store.modify("pods", namespace, name, change)
        self.shelf.start(pod["metadata"]["uid"], container, run)
        return run

    def end_container(
        self,
        namespace: str,
        name: str,
        container: str,
        *,
        exit_code: int,
        reason: str = "",
        at: float | None = None,
    ) -> None:
        """Let a running container exit; its follows end. `reason` is Completed or Error by the exit code if empty."""
        now = self.store.clock() if at is None else at

        def change(pod: Object) -> None:
            status = find_status(pod, container)
            started = status["state"].get("running", {}).get("startedAt", stamp(now))
            ended = {"exitCode": exit_code, "reason": reason or ("Error" if exit_code else "Completed")}
            ended.update({"startedAt": started, "finishedAt": stamp(now), "containerID": status.get("containerID", "")})
            init = {each["name"] for each in pod["spec"].get("initContainers") or []}
            status.update({"state": {"terminated": ended}, "started": False})
            status["ready"] = container in init and exit_code == 0
            settle(pod, now)

        pod = self.store.modify("pods", namespace, name, change)
        self.shelf.end(pod["metadata"]["uid"], container, self._ns(at))

    def back_off(self, namespace: str, name: str, container: str, seconds: int, *, at: float | None = None) -> None:
        """Show a container that has ended as CrashLoopBackOff; `seconds` is the wait that the message names."""
        now = self.store.clock() if at is None else at

        def change(pod: Object) -> None:
            status, meta = find_status(pod, container), pod["metadata"]
            where = f"{meta['name']}_{meta['namespace']}({meta['uid']})"
            length = f"{seconds // 60}m{seconds % 60}s" if seconds >= 60 else f"{seconds}s"
            text = f"back-off {length} restarting failed container={container} pod={where}"
            if "terminated" in status["state"]:
                status["lastState"] = {"terminated": status["state"]["terminated"]}
            status["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": text}}
            settle(pod, now)

        self.store.modify("pods", namespace, name, change)

    def restart_container(
        self, namespace: str, name: str, container: str, *, exit_code: int = 1, reason: str = ""
    ) -> str:
        """End a container and start it again; returns the ID of the new run. Raises KeyError."""
        self.end_container(namespace, name, container, exit_code=exit_code, reason=reason)
        return self.start_container(namespace, name, container)

    def log(self, namespace: str, name: str, container: str) -> LogFile:
        """The log of a container's newest run. Raises KeyError."""
        found = self.shelf.newest(self.pod(namespace, name)["metadata"]["uid"], container)
        if found is None:
            raise KeyError(f"{namespace}/{name}/{container}")
        return found

    def write_log(
        self,
        namespace: str,
        name: str,
        container: str,
        data: bytes,
        at: float | None = None,
        *,
        at_ns: int | None = None,
    ) -> None:
        """Append to a container's log. With `at` (epoch seconds) or `at_ns` all lines of `data` get that one stamp."""
        step = STEP_NS if at is None and at_ns is None else 0
        self.log(namespace, name, container).write(data, self._ns(at) if at_ns is None else at_ns, step)

    def rotate_log(self, namespace: str, name: str, container: str) -> None:
        """Start a new log file for one container."""
        self.log(namespace, name, container).rotate()

    def rotate_logs(self) -> None:
        """Start a new log file for every container."""
        for log in self.shelf.files():
            log.rotate()

    def end_follows(self) -> None:
        """End all log follows in good order although the containers run on, as a kubelet that restarts does."""
        for log in self.shelf.files():
            log.interrupt()

    def expire_watches(self) -> None:
        """End all watches with 410 and forget the history."""
        self.store.expire()

    def add_event(
        self, pod: Object, reason: str, message: str, *, kind: str = "Normal", at: float | None = None, count: int = 1
    ) -> None:
        """An event about a pod, written by its kubelet. `kind` is Normal or Warning."""
        now = self.store.clock() if at is None else at
        meta = pod["metadata"]
        name = f"{meta['name']}.{self.rng.getrandbits(64):016x}"
        about = {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
        about.update({"apiVersion": "v1", "resourceVersion": meta["resourceVersion"]})
        host = pod["spec"].get("nodeName", "")
        component = "kubelet" if host else "default-scheduler"
        event: Object = {"kind": "Event", "apiVersion": "v1"}
        event["metadata"] = {"name": name, "namespace": meta["namespace"], "creationTimestamp": stamp(now)}
        event.update({"involvedObject": about, "reason": reason, "message": message})
        event["source"] = {"component": component, **({"host": host} if host else {})}
        event.update({"firstTimestamp": stamp(now), "lastTimestamp": stamp(now), "count": count, "type": kind})
        event.update({"eventTime": None, "reportingComponent": component, "reportingInstance": host})
        self.store.put("events", event)
        self._events.append((meta["namespace"], name))
        if len(self._events) > EVENTS_KEPT:
            self.store.delete("events", *self._events.pop(0))
