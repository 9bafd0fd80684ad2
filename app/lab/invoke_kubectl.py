"""The kubectl in the pod of a run command: a few of its words, answered by really asking the emulated API server.

`get` (table, wide, json, yaml, name, go-template; by name, or of a file), `logs`, `version`, `auth whoami`
and `apply --dry-run=client`. The output, with standard error in it, is as kubectl prints it.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp

from app.lab.go_template import BadTemplate, render
from app.lab.resources import RESOURCES, Resource

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
LIMIT = 30.0
"""Seconds for one question to the API server, on the same machine."""
CLIENT_VERSION = "v1.34.1"

_VALUED = {
    "-n": "namespace", "-o": "output", "-l": "selector", "-c": "container", "-f": "filename",
    "--filename": "filename", "--namespace": "namespace", "--output": "output", "--selector": "selector",
    "--container": "container", "--field-selector": "field-selector", "--tail": "tail", "--since": "since",
    "--since-time": "since-time", "--limit-bytes": "limit-bytes", "--sort-by": "sort-by",
    "--request-timeout": "request-timeout", "--chunk-size": "chunk-size", "--max-log-requests": "max-log-requests",
}  # fmt: skip
_FLAGS = {
    "-A": "all-namespaces", "-p": "previous", "-w": "watch", "--all-namespaces": "all-namespaces",
    "--no-headers": "no-headers", "--previous": "previous", "--timestamps": "timestamps", "--prefix": "prefix",
    "--all-containers": "all-containers", "--follow": "follow", "--show-labels": "show-labels",
    "--ignore-not-found": "ignore-not-found", "--watch": "watch", "--dry-run": "dry-run",
}  # fmt: skip
_SECONDS = {"h": 3_600, "m": 60, "s": 1}

Json = dict[str, Any]


class Trouble(Exception):
    """kubectl ends with exit code 1 and these words."""


@dataclass(slots=True)
class _Words:
    """A command line taken apart."""

    plain: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        return self.options.get(name, "false") not in ("false", "")


def _parse(words: list[str]) -> _Words:
    """The words behind the verb. Raises Trouble for an unknown flag. With `logs`, -f means follow."""
    verb, found, rest = words[0], _Words(), words[1:]
    while rest:
        word = rest.pop(0)
        name, has_value, value = word.partition("=")
        if not word.startswith("-"):
            found.plain.append(word)
        elif verb == "logs" and word == "-f":
            found.options["follow"] = "true"
        elif name in _FLAGS:
            found.options[_FLAGS[name]] = value if has_value else "true"
        elif name in _VALUED:
            if not has_value and not rest:
                raise Trouble(f"error: flag needs an argument: {word}")
            found.options[_VALUED[name]] = value if has_value else rest.pop(0)
        elif name[:2] in _VALUED and not word.startswith("--"):  # -ojson, -nshop
            found.options[_VALUED[name[:2]]] = word[2:].removeprefix("=")
        else:
            raise Trouble(f"Error: unknown flag: {word}\nSee 'kubectl {verb} --help' for usage.")
    return found


class Kubectl:
    """kubectl as one caller, with the files that came along."""

    def __init__(self, api: str, tls: ssl.SSLContext, token: str, files: Mapping[str, bytes]) -> None:
        self._api, self._tls, self._token, self._files = api, tls, token, files

    async def run(self, words: list[str]) -> tuple[int, str]:
        """Exit code and output of `kubectl WORDS`."""
        verb = words[0] if words else ""
        try:
            if verb == "get":
                return 0, await self._get(_parse(words))
            if verb == "logs":
                return 0, await self._logs(_parse(words))
            if verb == "version":
                return 0, await self._version(_parse(words))
            if words[:2] == ["auth", "whoami"]:
                return 0, await self._whoami(_parse(words[1:]))
            if verb == "apply":
                return 0, self._apply(_parse(words))
        except Trouble as trouble:
            return 1, f"{trouble}\n"
        except (aiohttp.ClientError, TimeoutError):
            return (
                1,
                "The connection to the server 10.0.0.1:443 was refused - did you specify the right host or port?\n",
            )
        if not verb:
            return 0, "kubectl controls the Kubernetes cluster manager.\n"
        return (
            1,
            f'error: unknown command "{verb}" for "kubectl": in the lab it has get, logs, version, whoami, apply\n',
        )

    async def _ask(self, path: str, accept: str, params: Mapping[str, str], body: str | None = None) -> bytes:
        """The body of a good answer; with `body` it is sent (POST). Raises Trouble with the server's words."""
        method, kind = ("GET", {}) if body is None else ("POST", {"Content-Type": "application/json"})
        headers = {"Authorization": f"Bearer {self._token}", "Accept": accept, "User-Agent": "kubectl/lab", **kind}
        limit = aiohttp.ClientTimeout(LIMIT)
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls), timeout=limit) as http,
            http.request(method, self._api + path, params=dict(params), headers=headers, data=body) as answer,
        ):
            found = await answer.read()
        if answer.status == 401:
            raise Trouble("error: You must be logged in to the server (Unauthorized)")
        if answer.status >= 400:
            try:
                said = json.loads(found)
                raise Trouble(f"Error from server ({said['reason']}): {said['message']}")
            except (ValueError, KeyError, TypeError):
                raise Trouble(f"Error from server: {found.decode('utf-8', 'replace').strip()}") from None
        return found

    async def _version(self, words: _Words) -> str:
        server = json.loads(await self._ask("/version", "application/json", {}))
        if words.options.get("output") == "json":
            both = {"clientVersion": {"gitVersion": CLIENT_VERSION}, "serverVersion": server}
            return json.dumps(both, indent=2) + "\n"
        return f"Client Version: {CLIENT_VERSION}\nKustomize Version: v5.7.1\nServer Version: {server['gitVersion']}\n"

    async def _whoami(self, words: _Words) -> str:
        path, kind = "/apis/authentication.k8s.io/v1/selfsubjectreviews", "SelfSubjectReview"
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": kind, "metadata": {}}
        found = json.loads(await self._ask(path, "application/json", {}, json.dumps(review)))
        if words.options.get("output") == "json":
            return json.dumps(found, indent=4) + "\n"
        user = found["status"]["userInfo"]
        if words.options.get("output") == "jsonpath={.status.userInfo.username}":
            return str(user["username"])
        lines = [["ATTRIBUTE", "VALUE"], ["Username", user["username"]], ["UID", user["uid"]]]
        lines.append(["Groups", f"[{' '.join(user['groups'])}]"])
        return "".join(_padded(line, [9, 0]) for line in lines)

    async def _get(self, words: _Words) -> str:
        if "filename" in words.options:
            return await self._get_of_file(words)
        if not words.plain:
            raise Trouble("error: Required resource not specified.\nSee 'kubectl get -h' for help and examples")
        kind, _, name = words.plain[0].partition("/")
        names = [name] if name else words.plain[1:]
        resource = _resource(kind)
        output = words.options.get("output", "")
        form, is_template, template = output.partition("go-template=")
        if not is_template and output not in ("", "wide", "json", "yaml", "name"):
            raise Trouble(f'error: unable to match a printer suitable for the output format "{output}"')
        path = self._path(resource, words)
        params = {
            api: words.options[own]
            for own, api in (("selector", "labelSelector"), ("field-selector", "fieldSelector"))
            if own in words.options
        }
        if output in ("json", "yaml", "name"):
            return await self._objects(resource, path, names, params, output)
        if is_template and not form:
            return _rendered(template, json.loads(await self._objects(resource, path, names, params, "json")))
        return await self._table(resource, path, names, params, words)

    async def _get_of_file(self, words: _Words) -> str:
        """What the cluster has of the objects in a file."""
        if words.plain:
            raise Trouble("error: when paths, URLs, or stdin is provided as input, you may not specify resource "
                          "arguments as well")  # fmt: skip
        objects = self._manifests(words.options["filename"])
        if len(objects) > 1 and words.options.get("output") in ("json", "yaml"):
            raise Trouble("error: in the lab, json and yaml are for files with one object")
        printed = []
        for one in objects:
            options = {**words.options, "namespace": one["namespace"] or words.options.get("namespace", "default")}
            del options["filename"]
            printed.append(await self._get(_Words([one["kind"], one["name"]], options)))
        return ("" if words.options.get("output") == "name" else "\n").join(printed)

    def _path(self, resource: Resource, words: _Words) -> str:
        base = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
        if not resource.namespaced or words.has("all-namespaces"):
            return f"{base}/{resource.name}"
        return f"{base}/namespaces/{quote(words.options.get('namespace', 'default'))}/{resource.name}"

    async def _objects(
        self, resource: Resource, path: str, names: list[str], params: Mapping[str, str], output: str
    ) -> str:
        kind: Json = {"apiVersion": resource.api_version, "kind": resource.kind}
        if names:
            found = [json.loads(await self._ask(f"{path}/{quote(name)}", "application/json", {})) for name in names]
        else:
            items = json.loads(await self._ask(path, "application/json", params))["items"]
            found = [{**kind, **item} for item in items]
        if output == "name":
            group = f".{resource.group}" if resource.group else ""
            return "".join(f"{resource.singular}{group}/{one['metadata']['name']}\n" for one in found)
        whole: Json = {"apiVersion": "v1", "items": found, "kind": "List", "metadata": {"resourceVersion": ""}}
        shown = found[0] if len(names) == 1 else whole
        if output == "yaml":
            import yaml

            return str(yaml.safe_dump(shown))
        return json.dumps(shown, indent=4, sort_keys=True, ensure_ascii=False) + "\n"

    async def _table(
        self, resource: Resource, path: str, names: list[str], params: Mapping[str, str], words: _Words
    ) -> str:
        asked = [f"{path}/{quote(name)}" for name in names] or [path]
        tables = [json.loads(await self._ask(each, TABLE, params)) for each in asked]
        everywhere = words.has("all-namespaces") and resource.namespaced
        columns = tables[0]["columnDefinitions"]
        shown = [at for at, each in enumerate(columns) if not each["priority"] or words.options.get("output") == "wide"]
        lines = [] if words.has("no-headers") else [[columns[at]["name"].upper() for at in shown]]
        if everywhere and lines:
            lines[0].insert(0, "NAMESPACE")
        rows = [row for table in tables for row in table.get("rows") or []]
        for row in rows:
            line = [_cell(row["cells"][at]) for at in shown]
            lines.append([row["object"]["metadata"]["namespace"], *line] if everywhere else line)
        if not rows:
            where = f" in {words.options.get('namespace', 'default')} namespace"
            return f"No resources found{'' if everywhere or not resource.namespaced else where}.\n"
        widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
        return "".join(_padded(line, widths) for line in lines)

    async def _logs(self, words: _Words) -> str:
        plain = [word.removeprefix("pod/").removeprefix("pods/") for word in words.plain]
        if not plain:
            raise Trouble("error: expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.")
        namespace = quote(words.options.get("namespace", "default"))
        path = f"/api/v1/namespaces/{namespace}/pods/{quote(plain[0], safe='')}"
        try:
            pod = json.loads(await self._ask(path, "application/json", {}))
        except Trouble as trouble:
            where = f' in namespace "{namespace}"' if "(NotFound)" in str(trouble) else ""
            raise Trouble(f"error: {str(trouble)[:1].lower()}{str(trouble)[1:]}{where}") from trouble
        container = words.options.get("container") or (plain[1] if len(plain) > 1 else "")
        every = [each["name"] for each in pod["spec"]["containers"]]
        first = [each["name"] for each in pod["spec"].get("initContainers", [])]
        if container and container not in (*every, *first):
            raise Trouble(f"error: container {container} is not valid for pod {plain[0]}")
        said = ""
        if words.has("all-containers"):
            chosen = [*first, *every]
        elif container or len(every) == 1:
            chosen = [container or every[0]]
        else:
            named = pod["metadata"].get("annotations", {}).get("kubectl.kubernetes.io/default-container", every[0])
            chosen, said = [named], f'Defaulted container "{named}" out of: {", ".join(every)}\n'
        for name in chosen:
            text = (await self._ask(f"{path}/log", "*/*", self._log_params(words, name))).decode("utf-8", "replace")
            head = f"[pod/{plain[0]}/{name}] " if words.has("prefix") else ""
            said += "".join(f"{head}{line}\n" for line in text.split("\n")[:-1]) if head else text
        return said

    @staticmethod
    def _log_params(words: _Words, container: str) -> dict[str, str]:
        params = {"container": container}
        names = (
            ("tail", "tailLines"), ("since-time", "sinceTime"), ("limit-bytes", "limitBytes"),
            ("previous", "previous"), ("timestamps", "timestamps"),
        )  # fmt: skip
        params |= {api: words.options[own] for own, api in names if own in words.options}
        if params.get("tailLines", "").startswith("-"):
            del params["tailLines"]
        if since := words.options.get("since"):
            parts = re.findall(r"(\d+)([hms])", since)
            if not parts or "".join(number + unit for number, unit in parts) != since:
                raise Trouble(f'error: invalid argument "{since}" for "--since" flag: time: invalid duration "{since}"')
            params["sinceSeconds"] = str(sum(int(number) * _SECONDS[unit] for number, unit in parts) or 1)
        return params

    def _apply(self, words: _Words) -> str:
        name = words.options.get("filename", "")
        objects = self._manifests(name)
        if words.options.get("dry-run") not in ("client", "true"):
            message = "the server does not allow this method on the requested resource"
            raise Trouble(f"Error from server (MethodNotAllowed): error when creating {name!r}: {message}")
        return "".join(f"{one['kind']}/{one['name']} created (dry run)\n" for one in objects)

    def _manifests(self, name: str) -> list[dict[str, str]]:
        """Kind (small letters), name and namespace (may be "") of each object in a file that came along."""
        import yaml

        if name not in self._files:
            raise Trouble(f'error: the path "{name}" does not exist')
        try:
            found = [one for one in yaml.safe_load_all(self._files[name]) if one]
            return [
                {
                    "kind": str(one["kind"]).lower(),
                    "name": str(one["metadata"]["name"]),
                    "namespace": str(one["metadata"].get("namespace", "")),
                }
                for one in found
            ]
        except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise Trouble(f"error: error parsing {name}: {error}") from error


def _rendered(template: str, value: Json) -> str:
    try:
        return render(template, value)
    except BadTemplate as error:
        raise Trouble(f"error: error parsing template {template}, {error}") from error


def _resource(kind: str) -> Resource:
    for resource in RESOURCES:
        if resource.served and kind.lower() in (resource.name, resource.singular, *resource.short):
            return resource
    raise Trouble(f'error: the server doesn\'t have a resource type "{kind}"')


def _cell(value: object) -> str:
    return "<none>" if value is None or value == "" else str(value).replace("\x1b", "^[")


def _padded(line: list[str], widths: list[int]) -> str:
    """A line of a table as kubectl prints it: three spaces between columns, those after the last one too."""
    return "".join(f"{cell:<{width + 3}}" for cell, width in zip(line[:-1], widths, strict=False)) + line[-1] + "\n"
