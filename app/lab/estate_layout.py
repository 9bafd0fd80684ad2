"""What the living estate consists of: namespaces, nodes, and some fifty pods with their fates."""

from __future__ import annotations

from functools import partial

from app.lab import estate_lines as lines
from app.lab.estate import Stage
from app.lab.estate_life import Part, attack, clock, crash_loop, flicker, recurring_job, speak
from app.lab.estate_owners import Deployment, put_owner, stateful_set
from app.lab.estate_pods import NODES, container, find_status, pod, settle
from app.lab.store import Object, stamp

DAY = 86_400.0
HOUR = 3_600.0
NAMESPACES = ("default", "kube-system", "payments", "shop", "edge", "batch", "team-a", "team-b", "hostile")


def furnish(stage: Stage) -> None:
    """Put all namespaces, nodes, workloads and pods on the stage."""
    for name in NAMESPACES:
        stage.cluster.add_namespace(name, stage.now - 30 * DAY)
    for number, name in enumerate(NODES):
        _node(stage, name, number)
    for part in (_default, _system, _payments, _shop, _edge, _batch, _teams, _hostile):
        part(stage)


def _node(stage: Stage, name: str, number: int) -> None:
    since = stamp(stage.now - 30 * DAY)
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}
    addresses = [{"type": "InternalIP", "address": f"10.0.0.{number + 10}"}, {"type": "Hostname", "address": name}]
    info = {"kubeletVersion": "v1.36.2", "osImage": "Ubuntu 24.04 LTS", "kernelVersion": "6.8.0-41-generic"}
    info |= {"containerRuntimeVersion": "containerd://2.1.4", "architecture": "amd64", "operatingSystem": "linux"}
    meta = {"name": name, "creationTimestamp": since, "labels": {"kubernetes.io/hostname": name}}
    conditions = [{**ready, "lastHeartbeatTime": since, "lastTransitionTime": since}]
    status = {"conditions": conditions, "addresses": addresses, "nodeInfo": info}
    stage.cluster.store.put(
        "nodes", {"kind": "Node", "apiVersion": "v1", "metadata": meta, "spec": {}, "status": status}
    )


def _part(name: str, image: str, talk: lines.Talk = lines.logfmt, pace: float = 5.0, **more: object) -> Part:
    return Part(container(name, f"registry.example.com/{image}", **more), talk, pace)


def _default(stage: Stage) -> None:
    part = _part("clock", "clock:1.0.0")
    stateful_set(stage, "default", "clock", 1, [part], stage.now - 2 * DAY, speaking=False)
    stage.add(clock(stage, "default", "clock-0", "clock"))
    Deployment(stage, "default", "hello", 2, [_part("hello", "hello:2.1.0", pace=8)], stage.now - 5 * HOUR).furnish()


def _system(stage: Stage) -> None:
    part = _part("coredns", "coredns:v1.12.1", pace=20)
    Deployment(stage, "kube-system", "coredns", 2, [part], stage.now - 30 * DAY).furnish()


def _payments(stage: Stage) -> None:
    app = _part("app", "checkout:3.8.1", lines.json_service, 1.5)
    proxy = _part("proxy", "envoy:1.35.0", lines.access_log, 4.0, restartPolicy="Always")
    Deployment(stage, "payments", "checkout", 3, [app], stage.now - 3 * DAY, init=[proxy]).furnish()
    stateful_set(stage, "payments", "fraud", 2, [_part("app", "fraud:0.9.2", pace=4)], stage.now - 9 * DAY)
    web = _part("gateway", "gateway:5.0.3", lines.json_service, 3.0)
    Deployment(stage, "payments", "gateway", 2, [web], stage.now - 6 * DAY).furnish()
    ledger = _part("ledger", "ledger:1.2.0", lines.logfmt, 1.2)
    _crashing(stage, "payments", "ledger", ledger, lines.python_trace, 1)
    vault = _part("vault-agent", "vault-agent:1.18", lines.logfmt, 0.8)
    _crashing(stage, "payments", "vault-agent", vault, lines.java_trace, 3)


def _crashing(stage: Stage, namespace: str, name: str, part: Part, last_words: lines.Talk, code: int) -> None:
    """A Deployment whose one pod crashes, and had crashed before."""
    made = Deployment(stage, namespace, name, 1, [part], stage.now - 40 * 60, healthy=False).furnish()

    def crashed(obj: Object) -> None:
        ended = {"exitCode": code, "reason": "Error", "startedAt": stamp(stage.now - 140)}
        ended |= {"finishedAt": stamp(stage.now - 120), "containerID": "containerd://" + "0d" * 32}
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": f"back-off restarting failed {part.name}"}}
        find_status(obj, part.name).update({"lastState": {"terminated": ended}, "state": state, "restartCount": 4})
        settle(obj, stage.now)

    stage.cluster.modify_pod(namespace, made.pods[0], crashed)
    stage.add(crash_loop(stage, namespace, made.pods[0], part, last_words, code), stage.rng.uniform(5, 30))


def _shop(stage: Stage) -> None:
    catalog = _part("catalog", "catalog:7.4.0", lines.json_service, 2.0)
    rolling = Deployment(stage, "shop", "catalog", 3, [catalog], stage.now - 4 * HOUR).furnish()
    stage.add(rolling.rollouts(every=150, first=320))
    cart = _part("cart", "cart:2.2.2", lines.json_service, 3.0)
    Deployment(stage, "shop", "cart", 2, [cart], stage.now - 26 * HOUR).furnish()
    search = _part("search", "search:1.0.0-dev", lines.colourful, 1.5)
    Deployment(stage, "shop", "search", 2, [search], stage.now - 7 * HOUR).furnish()
    broken = _part("recommender", "recommender:v0-typo")
    made = Deployment(stage, "shop", "recommender", 1, [broken], stage.now - 50 * 60, healthy=False).furnish()
    _image_missing(stage, "shop", made.pods[0], "recommender")
    wait = _part("wait-for-db", "busybox:1.36", lines.waiting_for_database, 5.0)
    importer = pod(
        "shop", "importer-0", [container("importer", "registry.example.com/importer:0.3.0")], stage.now - 18 * 60,
        init=[wait.spec], node=NODES[1],
    )  # fmt: skip
    stage.cluster.add_pod(importer)
    stage.cluster.start_container("shop", "importer-0", wait.name, at=stage.now - 18 * 60 + 2)
    stage.cluster.modify_pod("shop", "importer-0", partial(_unready, stage.now, wait.name))
    stage.add(speak(stage, "shop", "importer-0", wait))


def _unready(now: float, name: str, obj: Object) -> None:
    find_status(obj, name)["ready"] = False
    settle(obj, now)


def _image_missing(stage: Stage, namespace: str, name: str, part: str) -> None:
    def change(obj: Object) -> None:
        status = find_status(obj, part)
        text = f'Back-off pulling image "{status["image"]}": ErrImagePull: failed to resolve reference: not found'
        status["state"] = {"waiting": {"reason": "ImagePullBackOff", "message": text}}
        settle(obj, stage.now)

    made = stage.cluster.modify_pod(namespace, name, change)
    text = f"Failed to pull image {made['spec']['containers'][0]['image']}: not found"
    stage.cluster.add_event(made, "Failed", text, kind="Warning", at=stage.now, count=11)


def _edge(stage: Stage) -> None:
    front = _part("nginx", "nginx:1.29.1", lines.access_log, 1.0)
    Deployment(stage, "edge", "ingress", 3, [front], stage.now - 12 * DAY).furnish()
    warmer = _part("warmer", "cache-warmer:0.4.4", lines.logfmt, 2.0)
    _crashing(stage, "edge", "cache-warmer", warmer, lambda *_: b"allocating 2.1 GiB for the key index\n", 137)
    geo = _part("geo", "geo:3.3.3", lines.json_service, 6.0)
    made = Deployment(stage, "edge", "geo", 2, [geo], stage.now - 2 * HOUR).furnish()
    stage.add(flicker(stage, "edge", made.pods[0], "geo"))
    big = pod("edge", "analytics-0", [container("analytics")], stage.now - 70 * 60, node=None)
    stored = stage.cluster.add_pod(big)
    text = "0/3 nodes are available: 3 Insufficient cpu."
    stage.cluster.add_event(stored, "FailedScheduling", text, kind="Warning", at=stage.now, count=9)


def _job(stage: Stage, name: str, *, failed: bool) -> Object:
    status = {"failed": 2} if failed else {"succeeded": 1}
    spec = {"parallelism": 1, "completions": 1, "selector": {"matchLabels": {"job-name": name}}, "template": {}}
    return put_owner(
        stage, "jobs", "Job", "batch", name, spec=spec, status=status, created=stage.now - HOUR, group="batch"
    )


def _batch(stage: Stage) -> None:
    report = _part("report", "report:2.0.0")
    owner = _job(stage, "nightly-report", failed=False)
    stage.add(recurring_job(stage, "batch", "nightly-report", report, owner, 75.0))
    owner = _job(stage, "import-fails", failed=True)
    for number in range(2):
        name, began = f"import-fails-{stage.suffix(5)}", stage.now - (40 - 10 * number) * 60
        labels = {"job-name": "import-fails", "app": "import-fails"}
        specs = [container("import")]
        stage.cluster.add_pod(pod("batch", name, specs, began, labels=labels, owner=owner, restart="Never"))
        stage.cluster.start_container("batch", name, "import", at=began + 2)
        log = stage.cluster.log("batch", name, "import")
        log.write(lines.python_trace(stage.rng, began + 5, 0), round((began + 5) * 1e9))
        stage.cluster.end_container("batch", name, "import", exit_code=2, at=began + 6)


def _teams(stage: Stage) -> None:
    for team, workloads in (("team-a", ("web", "worker")), ("team-b", ("api", "web"))):
        for name in workloads:
            part = _part(name, f"{name}:1.4.2", lines.logfmt, 6.0)
            count = 2 if team == "team-a" else 1
            Deployment(stage, team, name, count, [part], stage.now - stage.rng.uniform(1, 40) * HOUR).furnish()


def _hostile(stage: Stage) -> None:
    """Names keep to Kubernetes' rules; everything that may be free text is not to be trusted."""
    text = "\x1b]52;c;cm0gLXJmIH4K\x07[bold red]markup[/] \u202egnp.exe\u202c \x9b31m <U+0007>\x07"
    made = stage.now - 3 * HOUR
    for name in ("talker", "x" * 63):
        each = pod("hostile", name, [container("app")], made, annotations={"note": text, "kubernetes.io/desc": text})
        stage.cluster.add_pod(each)
        stage.cluster.start_container("hostile", name, "app", at=made + 2)
    stage.add(attack(stage, "hostile", "talker", "app"))
    # STATUS cells hold markup but no control: kubectl passes bidi and C1 controls through, and a pod list printed
    # beside kubectl's must be equal to the letter. Controls are in messages, annotations, events and logs.
    reasons = (("click", "[@click=app.quit]Image[/]PullBackOff"), ("markup", "[blink]Crash[/blink]LoopBackOff[/]"))
    for name, reason in reasons:
        stage.cluster.add_pod(pod("hostile", name, [container("app")], made))
        stage.cluster.modify_pod("hostile", name, partial(_say, stage.now, reason, text))


def _say(now: float, reason: str, message: str, obj: Object) -> None:
    find_status(obj, "app")["state"] = {"waiting": {"reason": reason, "message": message}}
    settle(obj, now)
    obj["status"]["message"] = message
