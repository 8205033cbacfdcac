import copy

import pytest

from kubecore.kinds.registry import Registry
from kubecore.schema.checking import InvalidObjectError, check
from kubecore.schema.defaults_pods import pull_policy, qos_class
from tests.kubecore.samples import device_crd, make_pod

REGISTRY = Registry()
RBAC = "rbac.authorization.k8s.io"


def take(plural, obj, group="", **options):
    return check(REGISTRY.find(group, "v1", plural), obj, **options).obj


def refused(plural, obj, group="", **options):
    with pytest.raises(InvalidObjectError) as caught:
        take(plural, obj, group, **options)
    return [str(cause) for cause in caught.value.causes]


def named(**fields):
    return {"metadata": {"name": "x"}, **fields}


# -- defaults


def test_a_pod_gets_the_defaults_of_kubernetes():
    taken = take("pods", make_pod() | {"status": {"phase": "Pending"}})
    assert taken["spec"] == {
        "containers": [
            {
                "name": "a",
                "image": "busybox",
                "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "resources": {},
            }
        ],
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
        "securityContext": {},
        "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority",
    }
    assert taken["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


def test_checking_a_checked_pod_again_changes_nothing():
    volumes = [
        {"name": "c", "configMap": {"name": "m"}},
        {"name": "e"},
        {"name": "h", "hostPath": {"path": "/"}},
    ]
    probe = {"httpGet": {"port": "web"}}
    container = {
        "name": "a",
        "image": "x:1",
        "livenessProbe": probe,
        "resources": {"limits": {"cpu": 1, "memory": "1024Ki"}},
        "ports": [{"containerPort": 80}],
        "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
    }
    once = take(
        "pods",
        make_pod(volumes=volumes, containers=[container], serviceAccountName="s", hostNetwork=True),
    )
    assert take("pods", once) == once
    spec, made = once["spec"], once["spec"]["containers"][0]
    assert spec["volumes"][0]["configMap"]["defaultMode"] == 420
    assert spec["volumes"][1] == {"name": "e", "emptyDir": {}}
    assert spec["serviceAccount"] == "s"
    assert made["resources"]["requests"] == {"cpu": "1", "memory": "1Mi"}
    assert made["ports"] == [{"containerPort": 80, "protocol": "TCP", "hostPort": 80}]
    assert made["livenessProbe"]["httpGet"] == {"port": "web", "path": "/", "scheme": "HTTP"}
    assert made["livenessProbe"]["periodSeconds"] == 10
    assert made["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("busybox:1.36", "IfNotPresent"),
        ("host:5000/busybox", "Always"),
        ("host:5000/busybox:1", "IfNotPresent"),
        ("busybox@sha256:abc", "IfNotPresent"),
        ("busybox:latest@sha256:abc", "Always"),
    ],
)
def test_an_image_is_always_pulled_when_its_tag_may_move(image, policy):
    assert pull_policy(image) == policy


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        (
            {"limits": {"cpu": "1", "memory": "1"}, "requests": {"cpu": "1", "memory": "1"}},
            "Guaranteed",
        ),
        (
            {"limits": {"cpu": "2", "memory": "1"}, "requests": {"cpu": "1", "memory": "1"}},
            "Burstable",
        ),
    ],
)
def test_qos_follows_from_requests_and_limits(resources, qos):
    assert qos_class({"containers": [{"resources": resources}]}) == qos


@pytest.mark.parametrize(
    ("plural", "group", "obj", "expected"),
    [
        ("secrets", "", {"stringData": {"a": "b"}}, {"type": "Opaque", "data": {"a": "Yg=="}}),
        (
            "services",
            "",
            {"spec": {"ports": [{"port": 80}]}},
            {
                "spec": {
                    "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
                    "type": "ClusterIP",
                    "sessionAffinity": "None",
                    "internalTrafficPolicy": "Cluster",
                }
            },
        ),
        (
            "namespaces",
            "",
            {},
            {
                "metadata": {"name": "x", "labels": {"kubernetes.io/metadata.name": "x"}},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            },
        ),
        (
            "clusterrolebindings",
            RBAC,
            {
                "roleRef": {"kind": "ClusterRole", "name": "r"},
                "subjects": [{"kind": "User", "name": "u"}],
            },
            {
                "roleRef": {"kind": "ClusterRole", "name": "r", "apiGroup": RBAC},
                "subjects": [{"kind": "User", "name": "u", "apiGroup": RBAC}],
            },
        ),
    ],
)
def test_other_kinds_get_their_defaults(plural, group, obj, expected):
    taken = take(plural, named(**obj), group)
    assert {key: taken[key] for key in expected} == expected


# -- rules of pods


def container(**fields):
    return make_pod(containers=[{"name": "a", "image": "b", **fields}])


FIRST = "spec.containers[0]"


@pytest.mark.parametrize(
    ("pod", "cause"),
    [
        (make_pod(containers=[]), "spec.containers: Required value"),
        (
            make_pod(restartPolicy="Maybe"),
            'spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "Never", "OnFailure"',
        ),
        (make_pod(dnsPolicy="x"), 'spec.dnsPolicy: Unsupported value: "x"'),
        (
            make_pod(terminationGracePeriodSeconds=-1),
            "spec.terminationGracePeriodSeconds: Invalid value: -1",
        ),
        (make_pod(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds: Invalid value: 0"),
        (make_pod(nodeSelector={"a b": "c"}), 'spec.nodeSelector: Invalid value: "a b"'),
        (make_pod(hostname="A"), 'spec.hostname: Invalid value: "A"'),
        (
            make_pod(tolerations=[{"operator": "Equal"}]),
            "spec.tolerations[0].operator: Invalid value",
        ),
        (
            make_pod(tolerations=[{"key": "a", "operator": "x"}]),
            'spec.tolerations[0].operator: Unsupported value: "x"',
        ),
        (
            make_pod(tolerations=[{"key": "a", "effect": "x"}]),
            'spec.tolerations[0].effect: Unsupported value: "x"',
        ),
        (
            make_pod(tolerations=[{"key": "a", "tolerationSeconds": 1}]),
            "spec.tolerations[0].effect: Invalid value",
        ),
        (
            make_pod(containers=[{"name": "a", "image": "b"}] * 2),
            'spec.containers[1].name: Duplicate value: "a"',
        ),
        (
            make_pod(initContainers=[{"name": "a", "image": "b"}]),
            'spec.containers[0].name: Duplicate value: "a"',
        ),
        (container(name="A_"), f'{FIRST}.name: Invalid value: "A_"'),
        (container(name=""), f"{FIRST}.name: Required value"),
        (container(image=""), f"{FIRST}.image: Required value"),
        (container(imagePullPolicy="x"), f'{FIRST}.imagePullPolicy: Unsupported value: "x"'),
        (
            container(ports=[{"containerPort": 0}]),
            f"{FIRST}.ports[0].containerPort: Invalid value: 0",
        ),
        (
            container(ports=[{"containerPort": 70000}]),
            f"{FIRST}.ports[0].containerPort: Invalid value: 70000",
        ),
        (
            container(ports=[{"containerPort": 1, "protocol": "x"}]),
            f'{FIRST}.ports[0].protocol: Unsupported value: "x"',
        ),
        (container(env=[{"name": "a=b"}]), f'{FIRST}.env[0].name: Invalid value: "a=b"'),
        (
            container(env=[{"name": "a", "valueFrom": {}}]),
            f"{FIRST}.env[0].valueFrom: Invalid value",
        ),
        (
            container(volumeMounts=[{"name": "v", "mountPath": "/x"}]),
            f'{FIRST}.volumeMounts[0].name: Not found: "v"',
        ),
        (
            container(volumeMounts=[{"name": "v"}]),
            f"{FIRST}.volumeMounts[0].mountPath: Required value",
        ),
        (
            container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            f'{FIRST}.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
        ),
        (
            container(resources={"limits": {"cpu": "-1"}}),
            f'{FIRST}.resources.limits[cpu]: Invalid value: "-1"',
        ),
        (
            make_pod(volumes=[{"name": "v"}, {"name": "v"}]),
            'spec.volumes[1].name: Duplicate value: "v"',
        ),
        (make_pod(volumes=[{"name": "V"}]), 'spec.volumes[0].name: Invalid value: "V"'),
        (
            make_pod(volumes=[{"name": "v", "secret": {}}]),
            "spec.volumes[0].secret.secretName: Required value",
        ),
        (
            make_pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
    ],
)
def test_each_rule_of_pods_names_what_breaks_it(pod, cause):
    assert any(found.startswith(cause) for found in refused("pods", pod))


def changed(pod, **spec):
    changed = copy.deepcopy(pod)
    changed["spec"].update(spec)
    return changed


def test_a_running_pod_may_change_its_image_and_gain_tolerations():
    old = take("pods", make_pod())
    new = changed(old, tolerations=[{"key": "a", "operator": "Exists"}], activeDeadlineSeconds=5)
    new["spec"]["containers"][0]["image"] = "other"
    assert take("pods", new, old=old)["spec"]["containers"][0]["image"] == "other"


def test_a_deadline_may_come_nearer_and_a_toleration_last_otherwise():
    toleration = {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    old = take("pods", make_pod(activeDeadlineSeconds=50, tolerations=[toleration]))
    longer = {**toleration, "tolerationSeconds": 500}
    new = changed(old, activeDeadlineSeconds=5, tolerations=[longer])
    assert take("pods", new, old=old)["spec"]["activeDeadlineSeconds"] == 5
    cause = refused("pods", changed(old, activeDeadlineSeconds=51), old=old)[0]
    assert "less than or equal to previous value" in cause
    gone = changed(old)
    del gone["spec"]["activeDeadlineSeconds"]
    assert "to nil value" in refused("pods", gone, old=old)[0]


def test_a_grace_period_that_was_negative_may_become_one_second():
    old = take("pods", make_pod())
    old["spec"]["terminationGracePeriodSeconds"] = -5
    assert take("pods", changed(old, terminationGracePeriodSeconds=1), old=old)
    cause = refused("pods", changed(old, terminationGracePeriodSeconds=30), old=old)[0]
    assert cause.startswith("spec: Forbidden")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (
            {"restartPolicy": "Never"},
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`",
        ),
        ({"nodeName": "n"}, "spec: Forbidden: pod updates"),
        (
            {"containers": [{"name": "a", "image": "b"}, {"name": "c", "image": "b"}]},
            "spec.containers: Forbidden",
        ),
        ({"tolerations": []}, "spec.tolerations: Forbidden"),
    ],
)
def test_a_pod_may_not_change_into_another(change, cause):
    old = take("pods", make_pod(tolerations=[{"key": "a", "operator": "Exists"}]))
    assert refused("pods", changed(old, **change), old=old)[0].startswith(cause)


# -- rules of other kinds


@pytest.mark.parametrize(
    ("plural", "group", "obj", "cause"),
    [
        (
            "configmaps",
            "",
            {"data": {"a b": ""}},
            'data[a b]: Invalid value: "a b": a valid config key',
        ),
        ("configmaps", "", {"data": {"": "x"}}, 'data[]: Invalid value: "": a valid config key'),
        ("secrets", "", {"data": {"": "eA=="}}, 'data[]: Invalid value: "": a valid config key'),
        (
            "configmaps",
            "",
            {"data": {"a": "x" * (1 << 20) + "x"}},
            "data: Too long: may not be more than 1048576 bytes",
        ),
        (
            "configmaps",
            "",
            {"data": {"a": "é" * (1 << 19) + "x"}},
            "data: Too long: may not be more than 1048576 bytes",
        ),
        (
            "secrets",
            "",
            {"data": {"a": "AAAA" * 349_526}},
            "data: Too long: may not be more than 1048576 bytes",
        ),
        (
            "configmaps",
            "",
            {"data": {"..data": ""}},
            "data[..data]: Invalid value: \"..data\": must not start with '..'",
        ),
        (
            "configmaps",
            "",
            {"data": {"a": ""}, "binaryData": {"a": ""}},
            'data[a]: Invalid value: "a": duplicate',
        ),
        (
            "nodes",
            "",
            {"spec": {"taints": [{"key": "a", "effect": "x"}]}},
            'spec.taints[0].effect: Unsupported value: "x"',
        ),
        (
            "nodes",
            "",
            {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}] * 2}},
            "spec.taints[1]: Duplicate value",
        ),
        (
            "nodes",
            "",
            {"spec": {"taints": [{"key": "a"}]}},
            "spec.taints[0].effect: Required value",
        ),
        (
            "events",
            "",
            {"involvedObject": {"namespace": "b"}},
            'involvedObject.namespace: Invalid value: "b"',
        ),
        (
            "leases",
            "coordination.k8s.io",
            {"spec": {"leaseDurationSeconds": 0}},
            "spec.leaseDurationSeconds: Invalid value: 0",
        ),
        ("services", "", {"spec": {"type": "x"}}, 'spec.type: Unsupported value: "x"'),
        (
            "services",
            "",
            {"spec": {"ports": [{"port": 0}]}},
            "spec.ports[0].port: Invalid value: 0",
        ),
        ("services", "", {"spec": {"type": "ExternalName"}}, "spec.externalName: Required value"),
        ("roles", RBAC, {"rules": [{"resources": ["pods"]}]}, "rules[0].verbs: Required value"),
        (
            "rolebindings",
            RBAC,
            {"roleRef": {"kind": "x", "name": "r"}},
            'roleRef.kind: Unsupported value: "x"',
        ),
        (
            "rolebindings",
            RBAC,
            {
                "roleRef": {"kind": "Role", "name": "r"},
                "subjects": [{"kind": "ServiceAccount", "name": "s"}],
            },
            "subjects[0].namespace: Required value",
        ),
    ],
)
def test_each_rule_of_the_other_kinds_names_what_breaks_it(plural, group, obj, cause):
    assert any(found.startswith(cause) for found in refused(plural, named(**obj), group))


def test_status_is_not_checked_for_required_fields():
    status = {"conditions": [{"type": "Ready"}], "containerStatuses": [{"name": "a"}]}
    assert take("pods", make_pod() | {"status": status})


@pytest.mark.parametrize(
    ("plural", "group", "old", "new", "cause"),
    [
        (
            "configmaps",
            "",
            {"immutable": True, "data": {"a": "1"}},
            {"immutable": True, "data": {"a": "2"}},
            "data: Forbidden: field is immutable",
        ),
        ("configmaps", "", {"immutable": True}, {}, "immutable: Forbidden"),
        (
            "secrets",
            "",
            {"type": "a"},
            {"type": "b"},
            'type: Invalid value: "b": field is immutable',
        ),
        (
            "rolebindings",
            RBAC,
            {"roleRef": {"kind": "Role", "name": "a"}},
            {"roleRef": {"kind": "Role", "name": "b"}},
            "roleRef: Invalid value",
        ),
    ],
)
def test_what_may_not_change_is_refused(plural, group, old, new, cause):
    before = take(plural, named(**old), group)
    assert refused(plural, named(**new), group, old=before)[0].startswith(cause)


def test_a_crd_keeps_its_scope():
    group = "apiextensions.k8s.io"
    old = take("customresourcedefinitions", device_crd(), group)
    new = copy.deepcopy(old)
    new["spec"]["scope"] = "Cluster"
    assert refused("customresourcedefinitions", new, group, old=old) == [
        'spec.scope: Invalid value: "Cluster": field is immutable'
    ]
