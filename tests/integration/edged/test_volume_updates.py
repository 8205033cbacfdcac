"""What running containers see of objects that change, come and go; and pods that wait for objects they need."""

from __future__ import annotations

import pytest

from tests.fakes.pods import config_map, pod_object, secret
from tests.integration.edged.lab import shell

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(120)]

# Says what all volumes hold whenever that changes: `volume:key=value`, in order.
WATCH = """
    trap 'exit 0' TERM
    while :; do
        now=$(for f in /v/*/*; do [ -f $f ] && echo "${f#/v/}=$(cat $f)"; done | tr '\\n' ' ')
        [ "$now" = "$before" ] || echo "$now"
        before="$now"; sleep 0.1
    done
"""
KINDS = {"configMap": ("ConfigMap", config_map), "secret": ("Secret", secret)}


def watched(volumes):
    mounts = [{"name": v["name"], "mountPath": f"/v/{v['name']}"} for v in volumes]
    return shell(WATCH, volumeMounts=mounts)


def optional_volumes(field):
    """Three optional objects, each as a volume of its own and in a projected one."""
    naming = "secretName" if field == "secret" else "name"
    made = []
    for name in ("come", "go", "stay"):
        made.append({"name": name, field: {naming: name, "optional": True}})
        source = {field: {"name": name, "optional": True}}
        made.append({"name": f"pro-{name}", "projected": {"sources": [source]}})
    return made


@pytest.mark.parametrize("field", KINDS)
async def test_optional_objects_come_go_and_change_under_running_containers(lab, field):
    kind, made = KINDS[field]
    await lab.put(kind, made("go", one="1"))
    await lab.put(kind, made("stay", one="1", two="2"))
    volumes = optional_volumes(field)

    def both(name, **data):
        return [f"{v}/{k}={x}" for v in (name, f"pro-{name}") for k, x in data.items()]

    def shows(*expected):
        return lambda: lab.log() and sorted(lab.log()[-1].split()) == sorted(expected)

    async with lab.pod(watched(volumes), volumes=volumes):
        await lab.until(shows(*both("go", one=1), *both("stay", one=1, two=2)))
        await lab.drop(kind, "go")
        await lab.until(shows(*both("stay", one=1, two=2)))
        await lab.put(kind, made("stay", two="3", three="4"))
        await lab.until(shows(*both("stay", two=3, three=4)))
        await lab.put(kind, made("come", one="5"))
        await lab.until(shows(*both("come", one=5), *both("stay", two=3, three=4)))
        # All files of a volume change together: nobody saw one of the new and one of the old.
        seen = {w for line in lab.log() for w in (frozenset(line.split()),)}
        assert not any({"stay/one=1", "stay/three=4"} <= s for s in seen)
        assert lab.of("app")["restartCount"] == 0


async def test_labels_and_annotations_that_change_appear_in_both_kinds_of_volume(lab):
    items = [
        {"path": name, "fieldRef": {"fieldPath": f"metadata.{name}"}}
        for name in ("labels", "annotations")
    ]
    volumes = [
        {"name": "plain", "downwardAPI": {"items": items}},
        {"name": "pro", "projected": {"sources": [{"downwardAPI": {"items": items}}]}},
    ]
    metadata = {"labels": {"a": "1"}, "annotations": {"b": "1"}}

    def shows(label, annotation):
        texts = {f'labels=a="{label}"', f'annotations=b="{annotation}"'}
        expected = {f"{v}/{text}" for v in ("plain", "pro") for text in texts}
        return lambda: lab.log() and expected <= set(lab.log()[-1].split())

    async with lab.pod(watched(volumes), volumes=volumes, metadata=metadata) as made:
        await lab.until(shows(1, 1))
        made["metadata"]["labels"] = {"a": "2"}
        await lab.put("Pod", made)
        await lab.until(shows(2, 1))
        made["metadata"]["annotations"] = {"b": "3"}
        await lab.put("Pod", made)
        await lab.until(shows(2, 3))


NEEDS = {
    "map": {"configMap": {"name": "none"}},
    "key": {"configMap": {"name": "some", "items": [{"key": "no", "path": "x"}]}},
    "secret": {"secret": {"secretName": "none"}},
    "secret-key": {"secret": {"secretName": "some", "items": [{"key": "no", "path": "x"}]}},
    "pro": {"projected": {"sources": [{"configMap": {"name": "none"}}]}},
    "pro-secret": {"projected": {"sources": [{"secret": {"name": "none"}}]}},
}


async def test_pods_wait_for_objects_and_keys_that_are_not_optional(lab):
    await lab.put("ConfigMap", config_map("some", yes="1"))
    await lab.put("Secret", secret("some", yes="1"))
    mounts = [{"name": "v", "mountPath": "/v"}]

    def refusals():
        return {m.partition(" : ")[2] for _, r, m in lab.events() if r == "FailedMount"}

    async with lab.running():
        for name, volume in NEEDS.items():
            app = shell("cat /v/*; echo; exec sleep 1000", volumeMounts=mounts)
            spec = {"terminationGracePeriodSeconds": 0, "volumes": [{"name": "v", **volume}]}
            await lab.put("Pod", pod_object(name, f"u-{name}", [app], **spec))
        expected = {
            'configmap "none" not found',
            'secret "none" not found',
            "configmap references non-existent config key: no",
            "references non-existent secret key: no",
        }
        await lab.until(lambda: refusals() == expected)
        await lab.until(lambda: {lab.phase(name) for name in NEEDS} == {"Pending"})
        for kind, made in KINDS.values():
            await lab.put(kind, made("none", no="here"))
            await lab.put(kind, made("some", no="here"))
        await lab.until(lambda: all(lab.phase(name) == "Running" for name in NEEDS))
        await lab.until(lambda: all(lab.log("app", 0, n, f"u-{n}") == ["here"] for n in NEEDS))
        for name in NEEDS:
            await lab.drop("Pod", name, f"u-{name}")
        await lab.until(lambda: not list((lab.folder / "pods/volumes").iterdir()))
