"""Who may do what: the three users of the recordings, those of the lab's Entra, and their RBAC rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.lab.azure_names import APP_OBJECT_ID, GROUP, OBJECT_ID, SERVICE_ACCOUNT, UPN
from app.lab.statuses import StatusError

READ = ("get", "list", "watch")

PUBLIC_PATHS = (
    "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version",
    "/version/",
)  # fmt: skip
"""Paths that every known user may get."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Verbs on resources of API groups; `*` is all."""

    verbs: tuple[str, ...]
    groups: tuple[str, ...]
    resources: tuple[str, ...]

    def allows(self, asked: Asked) -> bool:
        pairs = ((self.verbs, asked.verb), (self.groups, asked.group), (self.resources, asked.full_resource))
        return all("*" in allowed or wanted in allowed for allowed, wanted in pairs)


@dataclass(frozen=True, slots=True)
class Binding:
    """A role given to a user in one namespace."""

    namespace: str
    role: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class User:
    """A user as SelfSubjectReview shows it."""

    name: str
    uid: str
    groups: tuple[str, ...]
    admin: bool = False
    bindings: tuple[Binding, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing to do: a verb on a resource, or (with `path`) on a path that is no resource."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


_READER = (
    Rule(READ, ("",), ("pods", "pods/log", "events")),
    Rule(READ, ("apps",), ("deployments", "replicasets")),
)
_LISTER = (Rule(("get", "list"), ("",), ("pods",)),)

_USERS: Mapping[str, User] = {
    "admin": User("token-admin", "u-admin", ("system:masters", "system:authenticated"), admin=True),
    "restricted": User(
        "restricted", "u-restricted", ("team-a-devs", "system:authenticated"),
        bindings=(Binding("team-a", "pod-reader", _READER), Binding("team-b", "pod-lister", _LISTER)),
    ),
    "nobody": User("nobody", "u-nobody", ("none", "system:authenticated")),
    UPN: User(UPN, OBJECT_ID, (GROUP, "system:authenticated"), admin=True),
    SERVICE_ACCOUNT: User(
        SERVICE_ACCOUNT, "u-jumpdeck-user",
        ("system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"), admin=True,
    ),
    APP_OBJECT_ID: User(APP_OBJECT_ID, APP_OBJECT_ID, ("system:authenticated",), admin=True),
}  # fmt: skip

EVERYBODY = (
    Rule(("create",), ("authorization.k8s.io",), ("selfsubjectaccessreviews", "selfsubjectrulesreviews")),
    Rule(("create",), ("authentication.k8s.io",), ("selfsubjectreviews",)),
)
"""What every known user may do."""

_BASIC, _VIEWER = "system:basic-user", "system:public-info-viewer"


def user_named(name: str) -> User:
    """The user with this name; one that the recordings do not know may do as little as `nobody`."""
    return _USERS.get(name) or User(name, f"u-{name}", ("system:authenticated",))


def _public(path: str) -> bool:
    return any(path.startswith(known[:-1]) if known.endswith("*") else path == known for known in PUBLIC_PATHS)


def verdict(user: User, asked: Asked) -> tuple[bool, str]:
    """Whether `user` may do it, and the reason as SelfSubjectAccessReview words it."""
    if user.admin:
        return True, ""
    authenticated = 'to Group "system:authenticated"'
    if asked.path:
        allowed = asked.verb in ("get", "head") and _public(asked.path)
        role = f'ClusterRoleBinding "{_VIEWER}" of ClusterRole "{_VIEWER}"'
        return allowed, f"RBAC: allowed by {role} {authenticated}" if allowed else ""
    if any(rule.allows(asked) for rule in EVERYBODY):
        return True, f'RBAC: allowed by ClusterRoleBinding "{_BASIC}" of ClusterRole "{_BASIC}" {authenticated}'
    for binding in user.bindings:
        if binding.namespace == asked.namespace and any(rule.allows(asked) for rule in binding.rules):
            role = f'RoleBinding "{binding.role}/{binding.namespace}" of Role "{binding.role}"'
            return True, f'RBAC: allowed by {role} to User "{user.name}"'
    return False, ""


def require(user: User, asked: Asked) -> None:
    """Raises StatusError 403 when `user` may not."""
    if verdict(user, asked)[0]:
        return
    headers = {"X-Content-Type-Options": "nosniff"}
    if asked.path:
        message = f'forbidden: User "{user.name}" cannot {asked.verb} path "{asked.path}"'
        raise StatusError(403, "Forbidden", message, {}, headers=headers)
    what = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
    subject = f'{what} "{asked.name}"' if asked.name else what
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    message = (
        f'{subject} is forbidden: User "{user.name}" cannot {asked.verb} resource "{asked.full_resource}" '
        f'in API group "{asked.group}" {where}'
    )
    details = {"name": asked.name, "group": asked.group, "kind": asked.resource}
    present = {key: value for key, value in details.items() if value}
    raise StatusError(403, "Forbidden", message, present, headers=headers)
