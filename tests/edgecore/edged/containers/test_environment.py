"""Environment, as kubelet resolves it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from edgecore.edged.containers.environment import PodFacts, expand, resolve_environment
from edgecore.edged.runtime import ContainerStartError
from tests.fakes.pods import container, make_pod

FACTS = PodFacts("edge-1", ["192.0.2.7"], ["10.88.0.2"], {"memory": Decimal(2**30)})
OBJECTS = {
    ("ConfigMap", "cfg"): {"a": b"1", "b.c": b"2"},
    ("Secret", "s"): {"token": b"hidden"},
}


def resolve(**fields):
    metadata = {"labels": {"app": "web"}, "annotations": {"x/y": 'say "hi"'}}
    pod = make_pod(containers=[container(**fields)], metadata=metadata)
    lookup = lambda kind, name: OBJECTS.get((kind, name))  # noqa: E731
    return dict(resolve_environment(pod, pod.spec.containers[0], lookup, FACTS).variables)


def source(name, **value_from):
    return {"env": [{"name": name, "valueFrom": value_from}]}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("$(A)$(A)", "11"),
        ("$(NOPE)", "$(NOPE)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $( $", "$A ${A} $( $"),
    ],
)
def test_references_expand_as_kubernetes_says(text, expanded):
    assert expand(text, {"A": "1"}) == expanded


def test_a_variable_sees_only_those_before_it():
    env = [
        {"name": "A", "value": "$(B)"},
        {"name": "B", "value": "2"},
        {"name": "C", "value": "$(B)"},
    ]
    assert resolve(env=env) == {"A": "$(B)", "B": "2", "C": "2"}


def test_env_wins_over_env_from():
    env_from = [{"configMapRef": {"name": "cfg"}, "prefix": "P_"}]
    env = [{"name": "P_a", "value": "mine"}]
    assert resolve(envFrom=env_from, env=env) == {"P_a": "mine", "P_b.c": "2"}


def test_keys_of_config_maps_and_secrets():
    assert resolve(**source("V", configMapKeyRef={"name": "cfg", "key": "a"})) == {"V": "1"}
    assert resolve(**source("V", secretKeyRef={"name": "s", "key": "token"})) == {"V": "hidden"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (source("V", configMapKeyRef={"name": "no", "key": "a"}), 'configmap "no" not found'),
        (source("V", secretKeyRef={"name": "no", "key": "a"}), 'secret "no" not found'),
        (
            source("V", configMapKeyRef={"name": "cfg", "key": "z"}),
            "couldn't find key z in ConfigMap default/cfg",
        ),
        ({"envFrom": [{"secretRef": {"name": "no"}}]}, 'secret "no" not found'),
        (
            source("V", fieldRef={"fieldPath": "spec.secrets"}),
            "unsupported fieldPath: spec.secrets",
        ),
    ],
)
def test_what_is_missing_is_named(fields, message):
    with pytest.raises(ContainerStartError) as caught:
        resolve(**fields)
    assert (caught.value.reason, caught.value.message) == ("CreateContainerConfigError", message)


def test_optional_references_may_be_missing():
    missing = {"name": "no", "optional": True}
    assert resolve(envFrom=[{"configMapRef": missing}]) == {}
    assert resolve(**source("V", secretKeyRef={**missing, "key": "a"})) == {}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['x/y']", 'say "hi"'),
        ("spec.nodeName", "edge-1"),
        ("status.hostIP", "192.0.2.7"),
        ("status.podIPs", "10.88.0.2"),
    ],
)
def test_a_pod_can_ask_about_itself(path, value):
    assert resolve(**source("V", fieldRef={"fieldPath": path})) == {"V": value}


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [
        ("requests.cpu", "1m", "250"),
        ("requests.cpu", "0", "1"),
        ("limits.memory", "1Mi", "64"),
        ("limits.ephemeral-storage", "1", "0"),
    ],
)
def test_resources_are_whole_numbers_of_their_divisor(resource, divisor, value):
    fields = source("V", resourceFieldRef={"resource": resource, "divisor": divisor})
    resources = {"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}}
    assert resolve(resources=resources, **fields) == {"V": value}


def test_a_limit_that_is_not_set_is_the_whole_node():
    fields = source("V", resourceFieldRef={"resource": "limits.memory", "divisor": "1Mi"})
    assert resolve(**fields) == {"V": "1024"}


def test_a_huge_environment_is_refused():
    env = [{"name": f"V{n}", "value": "x" * 100_000} for n in range(30)]
    with pytest.raises(ContainerStartError, match="over the limit"):
        resolve(env=env)
