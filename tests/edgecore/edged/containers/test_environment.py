"""Environment, as kubelet resolves it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecore.edged.containers.environment import (
    PodFacts,
    check_exec,
    expand,
    resolve_environment,
)
from edgecore.edged.containers.expansion import ExpansionTooLongError
from edgecore.edged.runtime import ContainerStartError
from tests.fakes.pods import container, make_pod

FACTS = PodFacts("edge-1", ["192.0.2.7"], ["10.88.0.2"], {"memory": Decimal(2**30)})
OBJECTS = {
    ("ConfigMap", "cfg"): {"a": b"1", "b.c": b"2"},
    ("Secret", "s"): {"token": b"hidden"},
}


def resolve(services=None, **fields):
    metadata = {"labels": {"app": "web"}, "annotations": {"x/y": 'say "hi"'}}
    pod = make_pod(containers=[container(**fields)], metadata=metadata)
    lookup = lambda kind, name: OBJECTS.get((kind, name))  # noqa: E731
    return dict(resolve_environment(pod, pod.spec.containers[0], lookup, FACTS, services).variables)


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
        ("metadata.namespace", "default"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['x/y']", 'say "hi"'),
        ("metadata.labels['none']", ""),
        ("metadata.labels", 'app="web"'),
        ("metadata.annotations", 'x/y="say \\"hi\\""'),
        ("spec.nodeName", "edge-1"),
        ("spec.serviceAccountName", ""),
        ("status.hostIP", "192.0.2.7"),
        ("status.hostIPs", "192.0.2.7"),
        ("status.podIP", "10.88.0.2"),
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
        ("requests.memory", "0", "67108864"),
        ("requests.memory", "1G", "1"),
        ("limits.hugepages-2Mi", "1Mi", "4"),
    ],
)
def test_resources_are_whole_numbers_of_their_divisor(resource, divisor, value):
    fields = source("V", resourceFieldRef={"resource": resource, "divisor": divisor})
    limits = {"memory": "64Mi", "hugepages-2Mi": "4Mi"}
    resources = {"requests": {"cpu": "250m"}, "limits": limits}
    assert resolve(resources=resources, **fields) == {"V": value}


def test_a_limit_that_is_not_set_is_the_whole_node():
    fields = source("V", resourceFieldRef={"resource": "limits.memory", "divisor": "1Mi"})
    assert resolve(**fields) == {"V": "1024"}


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ({"resource": "limits.cpu", "containerName": "no"}, "container no not found"),
        ({"resource": "limits.gpu"}, "unsupported container resource : limits.gpu"),
        ({"resource": "cpu"}, "unsupported container resource : cpu"),
        ({"resource": "limits.cpu", "divisor": "x"}, "'x' is not a quantity"),
    ],
)
def test_a_resource_that_cannot_be_asked_for_is_named(ref, message):
    with pytest.raises(ContainerStartError) as caught:
        resolve(**source("V", resourceFieldRef=ref))
    assert (caught.value.reason, caught.value.message) == ("CreateContainerConfigError", message)


def test_variables_of_services_give_way_and_can_be_referred_to():
    services = {"DB_SERVICE_HOST": "10.96.0.7", "DB_PORT": "tcp://10.96.0.7:80"}
    env = [{"name": "URL", "value": "http://$(DB_SERVICE_HOST)"}, {"name": "DB_PORT", "value": "1"}]
    assert resolve(services, env=env) == {
        "URL": "http://10.96.0.7",
        "DB_PORT": "1",
        "DB_SERVICE_HOST": "10.96.0.7",
    }


def test_keys_that_are_no_names_of_variables_are_skipped_and_told():
    pod = make_pod(containers=[container(envFrom=[{"configMapRef": {"name": "odd"}}])])
    lookup = lambda *_: {"good": b"1", "b=d": b"2", "ünd": b"3"}  # noqa: E731
    found = resolve_environment(pod, pod.spec.containers[0], lookup, FACTS)
    assert found.variables == [("good", "1")]
    assert found.skipped == [
        (
            "Keys [b=d, ünd] from the EnvFrom configMap default/odd were skipped since they are "
            "considered invalid environment variable names."
        )
    ]


# Hostile environments: refused with one reason, and before they cost anything.


def test_a_huge_environment_is_refused():
    env = [{"name": f"V{n}", "value": "x" * 100_000} for n in range(30)]
    with pytest.raises(ContainerStartError, match="environment is over the limit of 1966080 bytes"):
        resolve(env=env)


def test_variables_that_multiply_each_other_are_refused_before_they_fill_the_memory():
    env = [{"name": "A0", "value": "x" * 1000}]
    env += [{"name": f"A{n}", "value": f"$(A{n - 1})" * 1000} for n in range(1, 20)]
    with pytest.raises(ContainerStartError, match="'A1' is longer than 131072 bytes once expanded"):
        resolve(env=env)


def test_ten_thousand_small_variables_are_a_matter_of_course():
    env = [{"name": f"V{n}", "value": "$(V0)x"} for n in range(10_000)]
    assert len(resolve(env=env)) == 10_000


@pytest.mark.parametrize(
    "env",
    [{"name": "", "value": "x"}, {"name": "a=b"}, {"name": "a\0b"}, {"name": "a", "value": "\0"}],
)
def test_a_name_or_value_that_no_environment_can_hold_is_refused(env):
    with pytest.raises(ContainerStartError, match="has no valid name or value"):
        resolve(env=[env])


@pytest.mark.parametrize(
    ("env", "words", "message"),
    [
        ([("A", "x" * 131_070)], (), "environment variable 'A' of 131072 bytes is over the limit of 131071"),
        ([], ("sh", "x" * 131_072), "argument 1 of 131072 bytes is over the limit of 131071"),
        ([], ("a\0b",), "argument 0 contains a NUL byte"),
        (
            [(f"V{n}", "x" * 100_000) for n in range(20)],
            (),
            "environment and arguments of 2000250 bytes are over the limit of 1966080",
        ),
        ([], ("é" * 65_536,), "argument 0 of 131072 bytes is over the limit of 131071"),
    ],
)  # fmt: skip
def test_what_the_kernel_would_not_take_is_refused_with_one_reason(env, words, message):
    with pytest.raises(ContainerStartError) as caught:
        check_exec(env, words)
    assert (caught.value.reason, caught.value.message) == ("CreateContainerConfigError", message)


def test_what_the_kernel_takes_passes():
    check_exec([("A", "x" * 131_069)], ("sh", "x" * 131_071))


@given(st.text(max_size=60), st.dictionaries(st.text(max_size=3), st.text(max_size=9), max_size=4))
def test_any_text_expands_to_what_it_does_without_a_limit_or_is_refused(text, env):
    whole = expand(text, env, limit=10_000)
    if "$" in text and len(whole) > 100:
        with pytest.raises(ExpansionTooLongError):
            expand(text, env, limit=20)
    assert expand(text, env, limit=len(whole)) == whole
