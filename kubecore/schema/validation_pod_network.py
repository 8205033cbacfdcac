"""Rules of what a pod says of names and addresses, with the API server's words.

What passes here is written into files line by line: a name with a line break would be a line of its own.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from kubecore.values.invalid import Cause, invalid, required
from kubecore.values.names import subdomain_problem

Object = dict[str, Any]
MAX_NAMESERVERS, MAX_SEARCHES, MAX_SEARCH_CHARS = 3, 32, 2048
_IP_RULE = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def check_names(spec: Object) -> list[Cause]:
    """Return what is wrong with a pod's host aliases, resolver and ports of the host's network."""
    return _host_aliases(spec) + _resolver(spec) + _host_network_ports(spec)


def _host_aliases(spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    for index, alias in enumerate(spec.get("hostAliases") or []):
        field = f"spec.hostAliases[{index}]"
        causes += _address(f"{field}.ip", alias.get("ip", ""))
        causes += [
            invalid(f"{field}.hostnames", name, problem)
            for name in alias.get("hostnames") or []
            if (problem := subdomain_problem(name))
        ]
    return causes


def _resolver(spec: Object) -> list[Cause]:
    config, field = spec.get("dnsConfig") or {}, "spec.dnsConfig"
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    causes: list[Cause] = []
    if spec["dnsPolicy"] == "None" and not servers:
        rule = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        causes.append(required(f"{field}.nameservers", rule))
    if len(servers) > MAX_NAMESERVERS:
        rule = f"must not have more than {MAX_NAMESERVERS} nameservers"
        causes.append(invalid(f"{field}.nameservers", servers, rule))
    for index, server in enumerate(servers):
        causes += _address(f"{field}.nameservers[{index}]", server)
    if len(searches) > MAX_SEARCHES:
        rule = f"must not have more than {MAX_SEARCHES} search paths"
        causes.append(invalid(f"{field}.searches", searches, rule))
    if len(" ".join(searches)) > MAX_SEARCH_CHARS:
        rule = f"must not have more than {MAX_SEARCH_CHARS} characters (including spaces) in the search list"
        causes.append(invalid(f"{field}.searches", searches, rule))
    causes += [
        invalid(f"{field}.searches[{index}]", search, problem)
        for index, search in enumerate(searches)
        if (problem := _search_problem(search))
    ]
    for index, option in enumerate(config.get("options") or []):
        causes += _option(option, f"{field}.options[{index}]")
    return causes


def _search_problem(search: str) -> str | None:
    """The root alone and underscores are allowed here, as resolvers take them."""
    return None if search == "." else subdomain_problem(search.removesuffix(".").replace("_", "x"))


def _option(option: Object, field: str) -> list[Cause]:
    if not option.get("name"):
        return [required(f"{field}.name")]
    # Upstream takes anything here; a resolver takes a word.
    return [
        invalid(f"{field}.{key}", text, "must be printable and without spaces")
        for key in ("name", "value")
        if (text := option.get(key) or "") and (" " in text or not text.isprintable())
    ]


def _host_network_ports(spec: Object) -> list[Cause]:
    if not spec.get("hostNetwork"):
        return []
    return [
        invalid(
            f"spec.{kind}[{place}].ports[{index}].containerPort",
            port.get("containerPort"),
            "must match `hostPort` when `hostNetwork` is true",
        )
        for kind in ("initContainers", "containers")
        for place, container in enumerate(spec.get(kind) or [])
        for index, port in enumerate(container.get("ports") or [])
        if port.get("hostPort", port.get("containerPort")) != port.get("containerPort")
    ]


def _address(field: str, text: str) -> list[Cause]:
    try:
        ip_address("" if "%" in text else text)  # a zone may hold anything
    except ValueError:
        return [invalid(field, text, _IP_RULE)]
    return []
