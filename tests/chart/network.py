"""Who may connect to whom, as NetworkPolicies say: nothing enforces them here, so this reads them as a cluster would.

By the rules of networking.k8s.io/v1: a pod that an ingress policy selects takes only what one of them allows; a peer
with both selectors must fit both; a selector that is empty fits all; a peer's pods are of the policy's own namespace
unless it selects namespaces; a port by name is that of the pod that is called. Label expressions and `ipBlock` are
read, too; egress is not.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Pod:
    """A pod as policies see it; `ports` are those of its containers, by name."""

    namespace: str
    labels: Labels = field(default_factory=dict)
    namespace_labels: Labels = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    address: str = "10.0.0.1"


def allows(policies: Sequence[Mapping[str, Any]], caller: Pod, called: Pod, port: int) -> bool:
    """Whether `caller` may connect to a TCP port of `called`."""
    selecting = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == called.namespace
        and "Ingress" in policy["spec"].get("policyTypes", ["Ingress"])
        and _selects(policy["spec"].get("podSelector", {}), called.labels)
    ]
    if not selecting:
        return True
    return any(
        _from(rule, caller, called.namespace) and _port(rule, called, port)
        for spec in selecting
        for rule in spec.get("ingress") or ()
    )


def _from(rule: Mapping[str, Any], caller: Pod, namespace: str) -> bool:
    peers = rule.get("from")
    return not peers or any(_is(peer, caller, namespace) for peer in peers)


def _is(peer: Mapping[str, Any], caller: Pod, namespace: str) -> bool:
    if "ipBlock" in peer:
        address = ipaddress.ip_address(caller.address)
        excepted = map(ipaddress.ip_network, peer["ipBlock"].get("except", ()))
        return address in ipaddress.ip_network(peer["ipBlock"]["cidr"]) and not any(address in one for one in excepted)
    if "namespaceSelector" in peer:
        if not _selects(peer["namespaceSelector"], caller.namespace_labels):
            return False
    elif caller.namespace != namespace:
        return False
    return _selects(peer.get("podSelector", {}), caller.labels)


def _port(rule: Mapping[str, Any], called: Pod, port: int) -> bool:
    return not rule.get("ports") or any(
        one.get("protocol", "TCP") == "TCP" and (one.get("port") is None or _number(one["port"], called) == port)
        for one in rule["ports"]
    )


def _number(port: int | str, called: Pod) -> int | None:
    return called.ports.get(port) if isinstance(port, str) else port


def _selects(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    wanted = selector or {}
    return wanted.get("matchLabels", {}).items() <= labels.items() and all(
        _fits(one, labels) for one in wanted.get("matchExpressions", ())
    )


def _fits(expression: Mapping[str, Any], labels: Labels) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", ())
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }[expression["operator"]]
