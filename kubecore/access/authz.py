"""Who may do what: nothing unless RBAC, the node rules or group system:masters says so. No off switch."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubecore.access import nodeauthz
from kubecore.access.authn import AUTHENTICATED, MASTERS, User
from kubecore.access.target import Target
from kubecore.errors import ApiStatusError
from kubecore.storage.store import Object, Store

logger = logging.getLogger(__name__)

_RBAC = "rbac.authorization.k8s.io"
_CERTIFICATES = "certificates.k8s.io"
_STORAGES = tuple(
    f"{plural}.{_RBAC}"
    for plural in ("roles", "clusterroles", "rolebindings", "clusterrolebindings")
)
# What a client has to read before it can ask for anything; holds no object.
_ASK_ABOUT_ONESELF = frozenset(
    {
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authentication.k8s.io", "selfsubjectreviews"),
    }
)
_OPEN_PATHS = (
    "/.well-known/openid-configuration",
    "/openid/v1/jwks",
    "/api",
    "/apis",
    "/openapi",
    "/version",
    "/healthz",
    "/livez",
    "/readyz",
)


@dataclass(frozen=True)
class Rule:
    """One rule of a role."""

    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    names: frozenset[str]
    paths: frozenset[str]

    @classmethod
    def from_object(cls, rule: Object) -> Rule:
        """Return the rule as compiled from its JSON."""
        keys = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
        return cls(*(frozenset(rule.get(key) or ()) for key in keys))

    def allows(self, target: Target) -> bool:
        """Tell whether this rule covers `target`."""
        if not self.verbs & {target.verb, "*"}:
            return False
        if not target.plural:
            return any(_path_matches(path, target.path) for path in self.paths)
        if not self.groups & {target.group, "*"}:
            return False
        wanted = {target.resource, "*"}
        if target.subresource:
            wanted.add(f"*/{target.subresource}")
        return bool(self.resources & wanted) and (not self.names or target.name in self.names)


_ALL = frozenset({"*"})
_NO_NAMES: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
_EVERYTHING = Rule(_ALL, _ALL, _ALL, frozenset(), _ALL)
_OPEN = Rule(
    frozenset({"get"}),
    frozenset(),
    frozenset(),
    frozenset(),
    frozenset({*_OPEN_PATHS, "/api/*", "/apis/*", "/openapi/*"}),
)


def _resource_rule(rule: Rule) -> Object:
    shown = {
        "verbs": sorted(rule.verbs),
        "apiGroups": sorted(rule.groups),
        "resources": sorted(rule.resources),
        "resourceNames": sorted(rule.names),
    }
    return {key: value for key, value in shown.items() if value}


class Authorizer:
    """Decides from the roles and bindings in the store, compiled again when one of them changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._compiled_at: tuple[int, ...] = ()
        # (subject kind, name) -> (namespace or "" for all, rules of the role)
        self._grants: dict[tuple[str, str], list[tuple[str, list[Rule]]]] = {}

    def require(self, user: User, target: Target) -> None:
        """Let `user` do `target`, or raise ApiStatusError 403."""
        if not self.allows(user, target):
            raise denied(user, target)

    def allows(self, user: User, target: Target) -> bool:
        """Tell whether `user` may do `target`."""
        if MASTERS in user.groups:
            return True
        if AUTHENTICATED in user.groups and _is_open(target):
            return True
        node = nodeauthz.node_of(user)
        if node and nodeauthz.allows(self._store, node, target):
            return True
        return any(rule.allows(target) for rule in self._granted(user, target.namespace))

    def may_ask(self, spec: Object, subresource: str) -> bool:
        """Tell whether who made a certificate signing request may have it approved by `subresource`."""
        user = User(str(spec.get("username") or ""), tuple(spec.get("groups") or ()))
        resource = (_CERTIFICATES, "v1", "certificatesigningrequests")
        return self.allows(user, Target("create", "", *resource, subresource=subresource))

    def may_sign_for(self, user: User, verb: str, signer: str) -> bool:
        """Tell whether `user` may `approve` or `sign` for `signer`, by its name or `DOMAIN/*`."""
        domain = signer.partition("/")[0]
        return any(
            self.allows(user, Target(verb, "", _CERTIFICATES, "v1", "signers", name=name))
            for name in (signer, f"{domain}/*")
        )

    def rules(self, user: User, namespace: str) -> Object:
        """Return the status of a SelfSubjectRulesReview: what `user` may do in `namespace`."""
        found = [_EVERYTHING] if MASTERS in user.groups else []
        found += self._granted(user, namespace)
        about = [
            Rule(frozenset({"create"}), frozenset({g}), frozenset({r}), *_NO_NAMES)
            for g, r in sorted(_ASK_ABOUT_ONESELF)
        ]
        node = bool(nodeauthz.node_of(user))
        return {
            "resourceRules": [_resource_rule(r) for r in (*found, *about) if r.resources],
            "nonResourceRules": [
                {"verbs": sorted(r.verbs), "nonResourceURLs": sorted(r.paths)}
                for r in (*found, _OPEN)
                if r.paths
            ],
            "incomplete": node,
            **(
                {"evaluationError": "node authorizer does not support user rule resolution"}
                if node
                else {}
            ),
        }

    def _granted(self, user: User, namespace: str) -> Iterator[Rule]:
        self._compile()
        subjects = [("User", user.name), *(("Group", group) for group in user.groups)]
        for subject in subjects:
            for where, rules in self._grants.get(subject, ()):
                if where in ("", namespace):
                    yield from rules

    def _compile(self) -> None:
        changed = tuple(self._store.changed(storage) for storage in _STORAGES)
        if changed == self._compiled_at:
            return
        roles, cluster_roles, bindings, cluster_bindings = (
            [entry.parse() for entry in self._store.entries(storage)] for storage in _STORAGES
        )
        rules: dict[tuple[str, str], list[Rule]] = {}
        for role in roles + cluster_roles:
            metadata = role["metadata"]
            key = (metadata.get("namespace", ""), metadata["name"])
            rules[key] = [Rule.from_object(rule) for rule in role.get("rules") or ()]
        grants: defaultdict[tuple[str, str], list[tuple[str, list[Rule]]]] = defaultdict(list)
        for binding in bindings + cluster_bindings:
            namespace = binding["metadata"].get("namespace", "")
            reference = binding.get("roleRef") or {}
            home = namespace if reference.get("kind") == "Role" else ""
            # A binding to a role that is not there grants nothing until it is.
            granted = rules.get((home, reference.get("name", "")), [])
            for subject in binding.get("subjects") or ():
                grants[_subject(subject, namespace)].append((namespace, granted))
        self._grants, self._compiled_at = dict(grants), changed


def denied(user: User, target: Target) -> ApiStatusError:
    """Return the 403 in Kubernetes' words."""
    if not target.plural:
        message = f'forbidden: User "{user.name}" cannot {target.verb} path "{target.path}"'
        return ApiStatusError(403, "Forbidden", message)
    where = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    what = f"{target.plural}.{target.group}" if target.group else target.plural
    named = f'{what} "{target.name}"' if target.name else what
    message = (
        f'{named} is forbidden: User "{user.name}" cannot {target.verb} resource "{target.resource}" '
        f'in API group "{target.group}" {where}'
    )
    details = {"name": target.name, "group": target.group, "kind": target.plural}
    return ApiStatusError(
        403, "Forbidden", message, details={k: v for k, v in details.items() if v}
    )


def _subject(subject: dict[str, Any], namespace: str) -> tuple[str, str]:
    kind, name = subject.get("kind", ""), subject.get("name", "")
    if kind == "ServiceAccount":
        return "User", f"system:serviceaccount:{subject.get('namespace') or namespace}:{name}"
    return kind, name


def _is_open(target: Target) -> bool:
    if target.verb == "create" and (target.group, target.plural) in _ASK_ABOUT_ONESELF:
        return True
    if target.plural or target.verb != "get":
        return False
    return any(target.path == path or target.path.startswith(path + "/") for path in _OPEN_PATHS)


def _path_matches(pattern: str, path: str) -> bool:
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return pattern == path
