"""No field of a pod's spec is ignored silently: the API's schema, the code and docs/pods.md say the same."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from edgecore.edged.spec.fields import (
    ELSEWHERE,
    NOT_OF_PROCESSES,
    READ_BY_ADMISSION,
    REFUSED,
    Verdict,
    not_of_processes,
    unknown_fields,
    verdict,
)
from edgecore.edged.spec.podspec import decode_pod
from kubecore.kinds.definitions import definitions, referenced
from tests.fakes.pods import container, pod_object

CORE = "io.k8s.api.core.v1."
PAGE = Path(__file__).parents[4] / "docs" / "pods.md"
CONTAINER_LISTS = ("containers", "initContainers", "ephemeralContainers")


def schema_paths(definition=CORE + "PodSpec", path="spec"):
    """Return every path of the API's schema; below what is not served nothing is listed."""
    found = set()
    for name, schema in definitions()[definition]["properties"].items():
        inner = f"{path}.{name}"
        found.add(inner)
        if path == "spec" and name in CONTAINER_LISTS:
            inner = "spec.containers"
        below = referenced(schema) or referenced(schema.get("items", {}))
        if below is None or inner in (*ELSEWHERE, *REFUSED, *READ_BY_ADMISSION):
            continue
        if "properties" in definitions()[below]:
            found |= schema_paths(below, inner)
    return found


def page_rows():
    """Return path -> (word, remark) of the page's tables; `a.{b,c}` stands for two paths."""
    rows = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| `spec") and len(cells) == 3:
            for path in expand_braces(cells[0].strip("`")):
                assert path not in rows, f"{path} has two rows"
                rows[path] = cells[1], cells[2]
    return rows


def expand_braces(pattern):
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(combination) for combination in itertools.product(*parts)]


def test_the_page_lists_every_field_of_the_pod_spec_and_no_other():
    assert sorted(page_rows()) == sorted(schema_paths())


def test_the_page_says_of_each_field_what_the_code_does():
    said = {path: word for path, (word, _) in page_rows().items()}
    assert said == {path: verdict(path).value for path in said}


def test_no_field_of_the_schema_is_without_a_verdict():
    assert {p for p in schema_paths() if verdict(p) is Verdict.UNKNOWN} == set()


def test_the_page_names_whose_a_field_is_and_why_one_is_refused():
    for path, (word, remark) in page_rows().items():
        if word == Verdict.ELSEWHERE.value:
            assert ELSEWHERE[path] in remark, path
        if word == Verdict.REFUSED.value:
            assert REFUSED[path] in remark, path


def test_every_row_of_the_code_is_a_field_of_the_schema():
    paths = schema_paths()
    listed = (*ELSEWHERE, *REFUSED, *READ_BY_ADMISSION, *NOT_OF_PROCESSES)
    assert {p for p in listed if p not in paths} == set()


def test_what_processes_are_not_held_to_is_named_if_it_is_asked_for():
    app = container(
        securityContext={"capabilities": {"drop": ["ALL"]}, "runAsUser": 1},
        resources={"limits": {"cpu": "1"}},
        ports=[{"containerPort": 80}],
    )
    side = container("i", ports=[{"containerPort": 80, "hostPort": 80}])
    pod = pod_object(containers=[app], initContainers=[side], hostname="")
    assert not_of_processes(pod["spec"]) == [
        "spec.containers.ports.hostPort",
        "spec.containers.resources.limits",
        "spec.containers.securityContext.capabilities",
    ]
    assert not_of_processes(pod_object()["spec"]) == []


def test_a_field_of_a_newer_api_is_named():
    app = container(
        env=[{"name": "A", "valueFrom": {"fileKeyRef": {"path": "x"}}}], restartPolicyRules=[{}]
    )
    pod = pod_object(
        containers=[app], initContainers=[container("i", newer=True)], hostnameOverride="x"
    )
    assert unknown_fields(pod["spec"]) == [
        "spec.containers.env.valueFrom.fileKeyRef",
        "spec.containers.newer",
        "spec.containers.restartPolicyRules",
        "spec.hostnameOverride",
    ]


def test_a_newer_field_that_asks_for_nothing_is_not_named():
    assert unknown_fields(pod_object(newer=False, newest={}, mode="")["spec"]) == []


def test_a_plain_pod_as_the_api_server_defaults_it_has_nothing_unknown():
    spec = {
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
        "priority": 0,
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "serviceAccount": "default",
        "serviceAccountName": "default",
        "terminationGracePeriodSeconds": 30,
        "tolerations": [{"key": "x", "operator": "Exists"}],
        "nodeSelector": {"a": "b"},
    }
    defaulted = container(
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        ports=[{"containerPort": 80, "protocol": "TCP"}],
    )
    body = json.dumps(pod_object(containers=[defaulted], **spec)).encode()
    assert unknown_fields(decode_pod(body)[1]["spec"]) == []


@pytest.mark.parametrize("spec", [{}, {"containers": None}, {"containers": [1]}, {"volumes": "x"}])
def test_a_spec_of_any_shape_is_walked(spec):
    unknown_fields(spec)
