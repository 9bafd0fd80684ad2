"""The lab's Azure Resource Manager over HTTPS: its one resource group, and the actions that a way in needs.

Paths, versions and bodies are those of the azure-mgmt packages; ids are matched in any case, as ARM does.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from app.lab import arm_resources
from app.lab.arc import CLUSTERS, KIND, LabArc
from app.lab.arm_errors import ArmError, arm_headers, forbidden, resource_not_found, sign_in_error
from app.lab.azure_names import BASTION, CLUSTER, GROUP_ID, JIT_POLICY, RESOURCE_GROUP, SCALE_SET, SUBSCRIPTION
from app.lab.door import HOST, Door
from app.lab.entra_tokens import BadToken, Tokens
from app.lab.invoke import RETRY_AFTER, Invoke
from app.lab.jit import Jit
from app.lab.tls_service import behind_door

THROTTLED_FOR = 1
"""Seconds in the Retry-After header of a throttled answer."""
PAGE = 100
"""Items on one page of a list."""

_RESULTS = f"{CLUSTER.lower()}/commandresults/"
_SUBSCRIPTION_ID = f"/subscriptions/{SUBSCRIPTION}"
_POLICIES = "microsoft.security/jitnetworkaccesspolicies"

Json = dict[str, Any]


class ArmServer:
    """ARM of the lab. Serve with `async with arm.serve(tls)`."""

    def __init__(self, tokens: Tokens, authority: str, admin_token: str) -> None:
        self.faults: set[str] = set()
        """Names of the faults at the place `arm` that are on."""
        self.throttled_for = THROTTLED_FOR
        self.page = PAGE
        self.requests: list[tuple[str, str]] = []
        """Method and path of what was asked, for tests to count."""
        self.door: Door
        self.facts: Callable[[], arm_resources.Facts]
        """What the documents say of the running lab; set before the first request."""
        self.invoke: Invoke
        self.jit: Jit
        self.arc: LabArc
        self._tokens, self._authority, self._admin_token = tokens, authority, admin_token

    @asynccontextmanager
    async def serve(self, tls: ssl.SSLContext) -> AsyncIterator[ArmServer]:
        """Listen while the context lasts."""
        async with behind_door(self.handle, tls) as self.door:
            self._tokens.manager = self.url
            yield self

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"https://{HOST}:{self.door.port}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        self.requests.append((request.method, request.path))
        try:
            answer = await self._answer(request)
        except ArmError as error:
            answer = error.response()
        answer.headers.update(arm_headers(request))
        return answer

    async def _answer(self, request: web.Request) -> web.Response:
        if "arm-500" in self.faults:
            raise ArmError(500, "InternalServerError", "The server encountered an internal error. Please retry.")
        if request.path.rstrip("/") == "/metadata/endpoints":
            return web.json_response(self._metadata())
        self._check_token(request)
        self._check_faults(request)
        if not request.query.get("api-version"):
            message = "The api-version query parameter (?api-version=) is required for all requests."
            raise ArmError(400, "MissingApiVersionParameter", message)
        path = request.path.rstrip("/").lower()
        if request.method == "GET":
            return self._read(request, path)
        if request.method == "POST":
            return await self._act(request, path)
        raise ArmError(
            405, "MethodNotAllowed", f"The requested resource does not support http method {request.method}."
        )

    def _metadata(self) -> Json:
        """The cloud as anybody may read it: its endpoints, with those that Azure Arc needs (version 2022-09-01)."""
        return {
            "name": "JumpdeckLab", "portal": self.url, "resourceManager": f"{self.url}/", "graph": self.url,
            "authentication": {
                "loginEndpoint": f"{self._authority}/", "audiences": [self.url, "https://management.azure.com/"],
                "tenant": "common", "identityProvider": "AAD",
            },
            "suffixes": {"relayEndpointSuffix": f".{self.arc.relay.suffix}"},
            "dataplaneEndpoints": {
                "arcConfigEndpoint": self.url, "arcGlobalNotificationServiceEndpoint": self.arc.relay.url,
            },
        }  # fmt: skip

    def _check_token(self, request: web.Request) -> None:
        """Raises ArmError 401."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            claims = self._tokens.read_for_arm(token.strip() if scheme.lower() == "bearer" else "")
            if "arm-401" in self.faults:
                raise BadToken("expired", at="now", now="later")
            if "wrong-tenant" in self.faults:
                raise BadToken("tenant", tenant="00000000-0000-0000-0000-00000000001b")
        except BadToken as bad:
            raise sign_in_error(bad, self._authority) from bad
        if "arm-claims" in self.faults and not claims.get("xms_lab_challenged"):
            wanted = json.dumps({"access_token": {"nbf": {"essential": True, "value": str(int(self._tokens.clock()))}}})
            challenge = (
                f'Bearer realm="", authorization_uri="{self._authority}/common/oauth2/authorize", '
                f'error="insufficient_claims", claims="{base64.b64encode(wanted.encode()).decode()}"'
            )
            message = "Continuous access evaluation resulted in challenge with result: InteractionRequired"
            raise ArmError(401, "InvalidAuthenticationToken", message, {"WWW-Authenticate": challenge})

    def _check_faults(self, request: web.Request) -> None:
        if "arm-429" in self.faults:
            message = (
                f"Number of requests for subscription '{SUBSCRIPTION}' and operation '{request.method}' exceeded the "
                "backend storage limit. Please try again after a while."
            )
            headers = {"Retry-After": str(self.throttled_for), "x-ms-ratelimit-remaining-subscription-reads": "0"}
            raise ArmError(429, "TooManyRequests", message, headers)
        hidden = request.method == "GET" and f"/{KIND}".lower() in request.path.lower()
        if "arm-403" in self.faults or ("arc-read-403" in self.faults and hidden):
            raise forbidden(_action(request.method, request.path), request.path)

    # reads

    def _read(self, request: web.Request, path: str) -> web.Response:
        if path.startswith(_RESULTS):
            done, body = self.invoke.result(path.removeprefix(_RESULTS))
            return web.json_response(body) if done else self._not_done(body["id"], body)
        items = self._items(request, path)
        if items is not None:
            return self._page(request, items)
        found = self._documents(request).get(path)
        if found is None:
            raise self._nothing(request.path.rstrip("/"))
        return web.json_response(found)

    def _documents(self, request: web.Request) -> dict[str, Json]:
        expand = "instanceview" in request.query.get("$expand", "").lower()
        found = arm_resources.documents(self.facts(), self.faults, expand=expand)
        found |= {arm_id.lower(): document for arm_id, document in self.arc.documents(self.faults).items()}
        if "jit-no-policy" not in self.faults:
            found[JIT_POLICY.lower()] = self.jit.policy()
        return found

    def _items(self, request: web.Request, path: str) -> list[Json] | None:
        """The items of a collection; None when the path names none."""
        roots = {
            "/subscriptions": arm_resources.subscription,
            "/tenants": arm_resources.tenant,
            f"{_SUBSCRIPTION_ID}/resourcegroups": arm_resources.resource_group,
        }
        if (make := roots.get(path)) is not None:
            return [make()]
        if path == f"{SCALE_SET}/virtualMachines".lower():
            expand = "instanceview" in request.query.get("$expand", "").lower()
            return arm_resources.instances(self.faults, expand=expand)
        scope, _, kind = path.rpartition("/providers/")
        if scope not in (_SUBSCRIPTION_ID, GROUP_ID.lower()):
            return None
        documents = self._documents(request)
        parts = kind.split("/")
        if len(parts) == 4 and parts[1] == "locations" and f"{parts[0]}/{parts[3]}" == _POLICIES:
            kind = _POLICIES
        if kind == _POLICIES:
            return [documents[JIT_POLICY.lower()]] if JIT_POLICY.lower() in documents else []
        if kind.count("/") != 1:
            return None
        kinds = {str(each.get("type", "")).lower() for each in documents.values()}
        if kind not in kinds | {"microsoft.network/publicipaddresses"}:
            return None
        return [each for each in documents.values() if str(each.get("type", "")).lower() == kind]

    def _page(self, request: web.Request, items: list[Json]) -> web.Response:
        start = int(request.query.get("$skiptoken", "0") or 0)
        body: Json = {"value": items[start : start + self.page]}
        if start + self.page < len(items):
            url = request.url.update_query({"$skiptoken": str(start + self.page)})
            body["nextLink"] = f"{self.url}{url.path_qs}"
        return web.json_response(body)

    def _nothing(self, path: str) -> ArmError:
        parts = path.strip("/").split("/")
        if len(parts) > 1 and parts[0].lower() == "subscriptions" and parts[1].lower() != SUBSCRIPTION:
            return ArmError(404, "SubscriptionNotFound", f"The subscription '{parts[1]}' could not be found.")
        if len(parts) > 3 and parts[2].lower() == "resourcegroups" and parts[3].lower() != RESOURCE_GROUP:
            return ArmError(404, "ResourceGroupNotFound", f"Resource group '{parts[3]}' could not be found.")
        if len(parts) > 7 and parts[4].lower() == "providers":
            return resource_not_found("/".join(parts[5:7]), parts[7], parts[3])
        return ArmError(404, "NotFound", f"There is nothing at {path}.")

    # actions

    async def _act(self, request: web.Request, path: str) -> web.Response:
        arm_id, _, action = path.rpartition("/")
        connected = next((each for each in CLUSTERS if each.lower() == arm_id), None)
        if connected and action == "listclusterusercredential":
            version = request.query["api-version"]
            correlation = request.headers.get("x-ms-correlation-request-id", "")
            sent = await _body(request)
            return web.json_response(self.arc.credential(connected, sent, version, correlation, self.faults))
        if arm_id == CLUSTER.lower() and action.startswith("listcluster"):
            return self._credential(request, action)
        if arm_id == CLUSTER.lower() and action == "runcommand":
            name = self.invoke.start(await _body(request))
            return self._not_done(name)
        if arm_id == JIT_POLICY.lower() and action == "initiate" and "jit-no-policy" not in self.faults:
            return web.json_response(self.jit.initiate(await _body(request)), status=202)
        if connected or arm_id in (CLUSTER.lower(), BASTION.lower(), JIT_POLICY.lower()):
            raise ArmError(404, "NotFound", f"There is no action {action} here.")
        raise self._nothing(request.path.rstrip("/").rpartition("/")[0])

    def _credential(self, request: web.Request, action: str) -> web.Response:
        facts = self.facts()
        if action == "listclusteradmincredential":
            if "local-accounts-disabled" in self.faults:
                message = (
                    "Getting static credential is not allowed because this cluster is set to disable local accounts."
                )
                raise ArmError(400, "BadRequest", message)
            return _kubeconfigs("clusterAdmin", arm_resources.admin_kubeconfig(facts, self._admin_token))
        if action != "listclusterusercredential":
            raise ArmError(404, "NotFound", f"There is no action {action} here.")
        form, public = request.query.get("format", "exec"), request.query.get("server-fqdn") == "public"
        if form not in ("exec", "azure"):
            raise ArmError(400, "InvalidParameter", f"The value of parameter format is invalid: {form}.")
        return _kubeconfigs("clusterUser", arm_resources.kubeconfig(facts, form=form, public=public))

    def _not_done(self, name: str, body: Json | None = None) -> web.Response:
        """Where to ask for the result of a command, and when."""
        where = f"{self.url}{CLUSTER}/commandResults/{name}?api-version=2026-08-01"
        headers = {"Location": where, "Retry-After": str(RETRY_AFTER)}
        if body is None:
            return web.Response(status=202, headers=headers)
        return web.json_response(body, status=202, headers=headers)


def _kubeconfigs(name: str, text: str) -> web.Response:
    return web.json_response({"kubeconfigs": [{"name": name, "value": base64.b64encode(text.encode()).decode()}]})


async def _body(request: web.Request) -> Json:
    """The JSON object of a request. Raises ArmError 400."""
    try:
        body = json.loads(await request.read())
        if not isinstance(body, dict):
            raise ValueError("not an object")
    except ValueError as error:
        message = "The request content was invalid and could not be deserialized."
        raise ArmError(400, "InvalidRequestContent", message) from error
    return body


def _action(method: str, path: str) -> str:
    """The action that a role has to allow: `Microsoft.Network/bastionHosts/read`."""
    _, _, rest = path.strip("/").rpartition("/providers/")
    parts = (rest or path.strip("/")).split("/")
    if not rest:
        return "Microsoft.Resources/subscriptions/resourceGroups/read"
    if method == "POST":
        return "/".join([parts[0], *parts[1:-1:2], parts[-1], "action"])
    return "/".join([parts[0], *parts[1::2], "read"])
