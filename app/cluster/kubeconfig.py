"""Kubeconfig files, read by us so that nothing in them runs, and only the chosen context is judged.

Fields: k8s.io/client-go tools/clientcmd/api/v1 (Config, Cluster, AuthInfo, Context). Merging of a KUBECONFIG list as
client-go does it: the first file that has an entry of a name wins, the first current-context wins, missing files of
the list are skipped. Relative paths count from the file that holds them.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.errors import ProfileError
from app.files import read_private, shown
from app.outbound import CA_LIMIT, is_loopback
from app.records import Record
from app.restricted_yaml import MAX_YAML_BYTES, load_yaml
from app.secrets.secret import Secret
from app.text import clean

TOKEN_LIMIT = 64 << 10
"""Bytes of a token file; header limits of servers are far below."""


class ClusterEntry(Record):
    """Where the API server is and what it must prove."""

    name: str
    server: str
    host: str
    port: int
    base_path: str
    ca: bytes | None = None
    ca_from: str = ""
    tls_server_name: str | None = None
    proxy_url: str | None = None


class ExecEntry(Record):
    """A command that makes credentials (client.authentication.k8s.io); data until it is trusted."""

    command: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    api_version: str = ""
    install_hint: str = ""
    provide_cluster_info: bool = False
    folder: Path = Path()
    """The folder of its kubeconfig: a command with a slash in it counts from there."""


class UserEntry(Record):
    """Who we are to the cluster."""

    name: str
    token: Secret | None = None
    token_file: Path | None = None
    certificate: bytes | None = None
    key: Secret | None = None
    exec: ExecEntry | None = None


class Chosen(Record):
    """One context of a kubeconfig with all it needs."""

    context: str
    cluster: ClusterEntry
    user: UserEntry
    namespace: str
    file: Path


class _Entry(Record):
    """A named entry and the file it comes from."""

    fields: dict[str, Any]
    file: Path


class Kubeconfig:
    """The merged entries of one or several files, not judged yet."""

    def __init__(self) -> None:
        self.clusters: dict[str, _Entry] = {}
        self.users: dict[str, _Entry] = {}
        self.contexts: dict[str, _Entry] = {}
        self.current: str | None = None
        self.file: Path = Path()

    def choose(self, context: str | None) -> Chosen:
        """The context (None: the current one), judged whole. Raises ProfileError that names file, entry and field."""
        name = context or self.current
        if not name:
            raise _error(self.file, "current-context", "it is not set and the profile names no context",
                         f"Set `context` in the profile to one of: {_some(self.contexts)}.")  # fmt: skip
        entry = self.contexts.get(name)
        if entry is None:
            raise ProfileError(
                f"The kubeconfig has no context {clean(name)}", f"{shown(self.file)} has: {_some(self.contexts)}",
                "Correct `context` in the profile.", code="JD-KUBECONFIG-CONTEXT",
            )  # fmt: skip
        at = _Place(entry.file, f"context {clean(name)}", entry.fields)
        cluster, user = at.text("cluster", required=True), at.text("user")
        if cluster not in self.clusters:
            raise at.error("cluster", f"there is no cluster {clean(str(cluster))}", f"It has: {_some(self.clusters)}.")
        if user and user not in self.users:
            raise at.error("user", f"there is no user {clean(user)}", f"It has: {_some(self.users)}.")
        return Chosen(
            context=name,
            cluster=_cluster(str(cluster), self.clusters[str(cluster)]),
            user=_user(user, self.users[user]) if user else UserEntry(""),
            namespace=at.text("namespace") or "",
            file=entry.file,
        )


def default_paths() -> list[Path]:
    """The files of $KUBECONFIG, else ~/.kube/config."""
    listed = [Path(part).expanduser() for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return listed or [Path("~/.kube/config").expanduser()]


def load(paths: Sequence[Path]) -> Kubeconfig:
    """Read and merge the files; with several, missing ones are skipped. Raises ProfileError."""
    merged = Kubeconfig()
    found = [path for path in paths if path.exists()] if len(paths) > 1 else list(paths)
    for path in found or list(paths)[:1]:
        path = path.expanduser()
        _merge(merged, path, read_private(path, limit=MAX_YAML_BYTES, what="kubeconfig", shared=True))
    return merged


def from_network(data: bytes, name: str) -> Kubeconfig:
    """A kubeconfig that a service sent; `name` says whose it is in errors. Raises ProfileError.

    It may name no file of this computer: the service would learn what stands in it.
    """
    path = Path(clean(name).replace(os.sep, "_"))
    found = Kubeconfig()
    _merge(found, path, data)
    for section in (found.clusters, found.users):
        for entry, held in section.items():
            for field in _FILE_FIELDS:
                if held.fields.get(field):
                    raise _error(path, f"{clean(entry)}: {field}", "it names a file of this computer, which nothing "
                                 "that comes over the network may", "Ask whoever runs the service.")  # fmt: skip
    return found


_FILE_FIELDS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def _merge(merged: Kubeconfig, path: Path, data: bytes) -> None:
    root = load_yaml(data, f"kubeconfig {shown(path)}")
    if root is None:
        root = {}
    if not isinstance(root, dict):
        raise _error(path, "file", "it is not a map", "A kubeconfig begins with `apiVersion: v1`.")
    place = _Place(path, "file", root)
    if not merged.file.name:
        merged.file = path
    merged.current = merged.current or place.text("current-context") or None
    for section, key, into in (
        ("clusters", "cluster", merged.clusters), ("users", "user", merged.users),
        ("contexts", "context", merged.contexts),
    ):  # fmt: skip
        entries = root.get(section) or []
        if not isinstance(entries, list):
            raise place.error(section, "it is not a list", "")
        for entry in entries:
            if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
                raise place.error(section, "an entry has no name, or its name is not text", "Give it a name (quoted).")
            fields = entry.get(key)
            if fields is not None and not isinstance(fields, dict):
                raise place.error(f"{section}: {clean(entry['name'])}", f"`{key}` is not a map", "")
            into.setdefault(entry["name"], _Entry(fields or {}, path))


class _Place(Record):
    """Reads the fields of one entry, with errors that name file, entry and field."""

    file: Path
    entry: str
    fields: dict[str, Any]

    def error(self, field: str, why: str, hint: str, code: str = "JD-KUBECONFIG-FIELD") -> ProfileError:
        return _error(self.file, f"{self.entry}: {field}", why, hint, code)

    def text(self, field: str, *, required: bool = False) -> str | None:
        value = self.fields.get(field)
        if value is None or value == "":
            if required:
                raise self.error(field, "it is missing", f"Add `{field}`.")
            return None
        if not isinstance(value, str):
            raise self.error(field, f"expected text, got {_kind(value)}", "Put it in quotes.")
        return value

    def flag(self, field: str) -> bool:
        value = self.fields.get(field)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.error(field, f"expected true or false, got {_kind(value)}", "Write true or false, no quotes.")
        return value

    def path(self, field: str) -> Path | None:
        value = self.text(field)
        return self.file.parent / Path(value).expanduser() if value else None

    def data(self, field: str) -> bytes | None:
        """A base64 field."""
        value = self.text(field)
        if value is None:
            return None
        try:
            return base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError) as exc:
            raise self.error(field, "it is not base64", "Copy it again from its source.") from exc

    def data_or_file(self, field: str, limit: int) -> bytes | None:
        """`field-data` wins over `field`, as in client-go."""
        inline = self.data(f"{field}-data")
        if inline is not None:
            return inline
        path = self.path(field)
        return read_private(path, limit=limit, what=field, shared=True) if path else None


def _cluster(name: str, entry: _Entry) -> ClusterEntry:
    at = _Place(entry.file, f"cluster {clean(name)}", entry.fields)
    server = str(at.text("server", required=True))
    host, port, path = check_server(server, lambda why, hint: at.error("server", why, hint))
    if at.flag("insecure-skip-tls-verify"):
        raise at.error(
            "insecure-skip-tls-verify", "it turns off the check of who answers, so Jumpdeck does not connect",
            "Remove it and name the CA: certificate-authority(-data) here, or ca-file in the profile; the server's own "
            "certificate may stand there too.", "JD-TLS-SKIP-VERIFY",
        )  # fmt: skip
    ca = at.data_or_file("certificate-authority", CA_LIMIT)
    return ClusterEntry(
        name=name, server=server.rstrip("/"), host=host, port=port, base_path=path, ca=ca,
        ca_from=f"{shown(entry.file)}: cluster {clean(name)}", tls_server_name=at.text("tls-server-name"),
        proxy_url=at.text("proxy-url"),
    )  # fmt: skip


def _user(name: str, entry: _Entry) -> UserEntry:
    at = _Place(entry.file, f"user {clean(name)}", entry.fields)
    if at.fields.get("username") or at.fields.get("password"):
        raise at.error("username", "API servers no longer know user names and passwords (since Kubernetes 1.19)",
                       "Use a token, a client certificate or exec.", "JD-KUBECONFIG-BASIC-AUTH")  # fmt: skip
    if at.fields.get("auth-provider"):
        raise at.error("auth-provider", "kubectl removed it in 1.26",
                       "Make the kubeconfig anew with its vendor's tool (it then has exec).",
                       "JD-KUBECONFIG-AUTH-PROVIDER")  # fmt: skip
    if any(at.fields.get(field) for field in ("as", "as-uid", "as-groups", "as-user-extra")):
        raise at.error("as", "acting as somebody else is not supported", "Use a context without it.",
                       "JD-KUBECONFIG-IMPERSONATE")  # fmt: skip
    token, token_file = at.text("token"), at.path("tokenFile")
    certificate = at.data_or_file("client-certificate", CA_LIMIT)
    key = at.data_or_file("client-key", CA_LIMIT)
    if (certificate is None) != (key is None):
        missing = "client-key" if key is None else "client-certificate"
        raise at.error(missing, "certificate and key belong together, one is missing", f"Add {missing}(-data).")
    run = at.fields.get("exec")
    if run is not None and not isinstance(run, dict):
        raise at.error("exec", f"expected a map, got {_kind(run)}", "")
    return UserEntry(
        name=name,
        token=Secret(token) if token and not token_file else None,  # client-go: tokenFile wins
        token_file=token_file,
        certificate=certificate,
        key=Secret(key.decode("utf-8", "replace")) if key is not None else None,
        exec=_exec(at, run) if run else None,
    )


def _exec(at: _Place, run: dict[str, Any]) -> ExecEntry:
    inner = _Place(at.file, f"{at.entry}: exec", run)
    args = run.get("args") or []
    if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
        raise inner.error("args", "expected a list of texts", "Put each in quotes.")
    env: list[tuple[str, str]] = []
    for pair in run.get("env") or []:
        if not isinstance(pair, dict) or not all(isinstance(pair.get(part), str) for part in ("name", "value")):
            raise inner.error("env", "expected a list of name and value, both text", "Put values in quotes.")
        env.append((pair["name"], pair["value"]))
    if inner.text("interactiveMode") == "Always":
        raise inner.error("interactiveMode", "it wants to talk to the terminal, which a command is not given here",
                          "Use IfAvailable or Never if the program can do without.")  # fmt: skip
    return ExecEntry(
        command=str(inner.text("command", required=True)), args=tuple(args), env=tuple(env),
        api_version=str(inner.text("apiVersion", required=True)), install_hint=inner.text("installHint") or "",
        provide_cluster_info=inner.flag("provideClusterInfo"), folder=at.file.parent,
    )  # fmt: skip


def check_server(server: str, error: Any) -> tuple[str, int, str]:
    """Host, port and path of an API server's URL; `error(why, hint)` makes the error when it is none."""
    try:
        parts = urlsplit(server)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise error("it is not a URL", "Write https://HOST:PORT.") from exc
    if parts.scheme not in ("https", "http") or not host:
        raise error(f"{clean(server)} is not a URL", "Write https://HOST:PORT.")
    if parts.scheme == "http" and not is_loopback(host):
        raise error("http:// sends the credential in the open", "Write https://.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise error("it holds more than host, port and path", "Write https://HOST:PORT/PATH.")
    return host, port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/")


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "text in quotes" if value.lower() in ("true", "false") else "text"
    return {bool: "true or false", int: "a number", float: "a number", dict: "a map", list: "a list"}.get(
        type(value), "nothing"
    )


def _some(names: dict[str, _Entry]) -> str:
    listed = [clean(name) for name in list(names)[:8]]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(listed) or "nothing") + more


def _error(file: Path, field: str, why: str, hint: str, code: str = "JD-KUBECONFIG-FIELD") -> ProfileError:
    return ProfileError(f"The kubeconfig {shown(file)} cannot be used", f"{field}: {why}", hint, code=code)
