"""What a container finds of each kind of volume: modes, owners, contents and sizes, as root and as somebody else."""

from __future__ import annotations

import base64
from decimal import Decimal

import pytest

from tests.fakes.pods import config_map, secret
from tests.integration.edged.lab import shell

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(120)]
NOBODY = {"securityContext": {"runAsUser": 1001}}
MEDIA = ("disk", "memory")
SPACES = [
    {"name": "disk", "emptyDir": {}},
    {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "10Mi"}},
]


def mounts(*names):
    return [{"name": name, "mountPath": f"/{name}"} for name in names]


def item(key, path, mode=None):
    return {"key": key, "path": path} | ({} if mode is None else {"mode": mode})


async def run(lab, *containers, **spec):
    """Run a pod to its end; return what each of its containers said."""
    async with lab.pod(*containers, restartPolicy="Never", **spec):
        await lab.until(lambda: lab.phase() in ("Succeeded", "Failed"))
        assert lab.phase() == "Succeeded", lab.status()
        return [lab.log(c["name"]) for c in containers]


# Files of three modes, one folder for each user, since a file that exists keeps its owner.
MAKE_FILES = """
    for d in disk memory; do
        stat -c '%a %u %g' /$d
        for m in 644 666 777; do
            f=/$d/$(id -u)-$m; echo content > $f; chmod $m $f; stat -c '%a %u %g' $f; cat $f
        done
        grep -q " /$d tmpfs " /proc/mounts && echo tmpfs || echo no tmpfs
    done
"""


def made_by(user, group, volume):
    files = [x for m in (644, 666, 777) for x in (f"{m} {user} {group}", "content")]
    return [volume, *files, "no tmpfs", volume, *files, "tmpfs"]


async def test_an_empty_dir_is_open_to_every_user_on_disk_and_in_memory(lab):
    root = shell(MAKE_FILES, "root", volumeMounts=mounts(*MEDIA))
    nobody = shell(MAKE_FILES, "nobody", volumeMounts=mounts(*MEDIA), **NOBODY)
    size = shell("df -k /memory | awk 'END {print $(NF-4)}'", "size", volumeMounts=mounts("memory"))
    said = await run(lab, root, nobody, size, volumes=SPACES)
    assert said == [made_by(0, 0, "777 0 0"), made_by(1001, 0, "777 0 0"), ["10240"]]


async def test_what_is_made_in_an_empty_dir_belongs_to_the_pods_group(lab):
    below = [
        *mounts(*MEDIA),
        {"name": "memory", "mountPath": "/below", "subPath": "not/there"},
        {"name": "disk", "mountPath": "/under", "subPath": "nor/here"},
    ]
    root = shell(MAKE_FILES, "root", volumeMounts=mounts(*MEDIA))
    nobody = shell(
        MAKE_FILES + "for d in /below /under; do stat -c '%a %u %g' $d; touch $d/x; done; "
        "stat -c '%g' /below/x /under/x",
        "nobody",
        volumeMounts=below,
        **NOBODY,
    )
    said = await run(lab, root, nobody, volumes=SPACES, securityContext={"fsGroup": 123})
    volume = "2777 0 123"
    assert said == [
        made_by(0, 123, volume),
        [*made_by(1001, 123, volume), volume, volume, "123", "123"],
    ]


async def test_containers_share_an_empty_dir_and_a_host_path(lab):
    host = lab.folder / "host"
    (host / "inner").mkdir(parents=True)
    host.chmod(0o1777)
    volumes = [
        {"name": "shared", "emptyDir": {}},
        {"name": "host", "hostPath": {"path": str(host)}},
    ]
    inner = {"name": "host", "mountPath": "/inner", "subPath": "inner"}
    writer = shell(
        "stat -c %a /host; echo hello > /shared/file; echo more > /host/file; echo deep > /inner/file",
        "writer",
        volumeMounts=[*mounts("shared", "host"), inner],
    )
    reader = shell(
        "until [ -s /shared/file ] && [ -s /host/inner/file ]; do sleep 0.1; done; "
        "cat /shared/file /host/file /host/inner/file",
        "reader",
        volumeMounts=mounts("shared", "host"),
    )
    assert await run(lab, writer, reader, volumes=volumes) == [["1777"], ["hello", "more", "deep"]]
    assert (host / "inner/file").read_text() == "deep\n"  # the node's own, and still there


def forms(kind, name):
    """ConfigMap or Secret `name` as a volume and as a source: whole, mode of all, chosen, mode of one."""
    field, naming = {"cfg": ("configMap", "name"), "sec": ("secret", "secretName")}[kind]
    chosen, strict = [item("two", "path/to/two")], [item("two", "path/to/two", 0o400)]

    def volume(suffix, items=(), **more):
        asked = {naming: name, **({"items": list(items)} if items else {}), **more}
        return {"name": f"{kind}-{suffix}", field: asked}

    def projected(suffix, items=(), **more):
        source = {field: {"name": name, **({"items": list(items)} if items else {})}}
        return {"name": f"pro-{kind}-{suffix}", "projected": {"sources": [source], **more}}

    return [
        made
        for form in (volume, projected)
        for made in (
            form("whole"),
            form("closed", defaultMode=0o400),
            form("chosen", chosen),
            form("strict", strict),
        )
    ]


READ = """
    for v in $VOLUMES; do
        for f in one path/to/two; do
            [ -e /$v/$f ] || continue
            echo $v $f $(stat -L -c '%a %u %g' /$v/$f) $(cat /$v/$f 2>/dev/null || echo denied)
        done
        ls /$v | tr '\\n' ' '; echo
    done
"""


@pytest.fixture
async def objects(lab):
    await lab.put("ConfigMap", config_map("object", one="1", two="2"))
    await lab.put("Secret", secret("object", one="1", two="2"))
    stranger = secret("object", one="not yours", two="not yours")
    stranger["metadata"]["namespace"] = "other"  # the same name elsewhere is another secret
    await lab.put("Secret", stranger)
    return [*forms("cfg", "object"), *forms("sec", "object")]


def found(volumes, owner, plain, closed, *, may_read_closed):
    """What READ says of `volumes` if plain files have one mode and closed ones another."""
    lines = []
    for volume in (v["name"] for v in volumes):
        mode = closed if volume.endswith(("closed", "strict")) else plain
        shown = "denied" if mode == closed and not may_read_closed else None
        if volume.endswith(("whole", "closed")):
            lines += [f"{volume} one {mode} {owner} {shown or 1}", "one two"]
        else:
            lines += [f"{volume} path/to/two {mode} {owner} {shown or 2}", "path"]
    return lines


def reader(volumes, name, **fields):
    names = [v["name"] for v in volumes]
    env = [{"name": "VOLUMES", "value": " ".join(names)}]
    return shell(READ, name, env=env, volumeMounts=mounts(*names), **fields)


async def test_files_of_objects_have_their_modes_and_are_the_pods_own(lab, objects):
    containers = reader(objects, "root"), reader(objects, "nobody", **NOBODY)
    root, nobody = await run(lab, *containers, volumes=objects)
    stripped = lambda lines: [line.strip() for line in lines]  # noqa: E731
    assert stripped(root) == found(objects, "0 0", 644, 400, may_read_closed=True)
    assert stripped(nobody) == found(objects, "0 0", 644, 400, may_read_closed=False)


async def test_with_a_group_the_pods_users_may_read_files_of_any_mode(lab, objects):
    said = await run(
        lab,
        reader(objects, "nobody"),
        volumes=objects,
        securityContext={"runAsUser": 1001, "fsGroup": 123},
    )
    expected = found(objects, "0 123", 644, 440, may_read_closed=True)
    assert [line.strip() for line in said[0]] == expected


async def test_binary_data_and_one_object_in_two_volumes_and_all_sources_in_one(lab, objects):
    del objects
    octets = bytes((0xDE, 0xCA, 0xFE, 0xBA, 0xD0, 0xFE, 0xFF))
    made = config_map("mixed", text="value")
    made["binaryData"] = {"dump.bin": base64.b64encode(octets).decode()}
    await lab.put("ConfigMap", made)
    name = {"path": "podname", "fieldRef": {"fieldPath": "metadata.name"}}
    sources = [
        {"configMap": {"name": "object", "items": [item("one", "cfg/one")]}},
        {"secret": {"name": "object", "items": [item("two", "sec/two")]}},
        {"downwardAPI": {"items": [name]}},
    ]
    volumes = [
        *[{"name": n, "configMap": {"name": "mixed"}} for n in ("first", "second")],
        *[{"name": n, "secret": {"secretName": "object"}} for n in ("third", "fourth")],
        {"name": "all", "projected": {"sources": sources}},
    ]
    script = """
        od -An -tx1 /first/dump.bin; cat /second/text; echo
        cat /third/one /fourth/one /all/cfg/one /all/sec/two /all/podname
    """
    (said,) = await run(
        lab, shell(script, volumeMounts=mounts(*[v["name"] for v in volumes])), volumes=volumes
    )
    assert said == [" de ca fe ba d0 fe ff", "value", "1112web"]


def resource(name, divisor="0"):
    asked = {"containerName": "app", "resource": name, "divisor": divisor}
    return {"path": name, "resourceFieldRef": asked}


FACTS = ("limits.cpu", "limits.memory", "requests.cpu", "requests.memory")
STORAGE = ("limits.ephemeral-storage", "requests.ephemeral-storage")


def told_both_ways(container):
    """Downward volumes, plain and projected, with a mode of all and a mode of one; and variables."""
    names = [
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
        {"path": "own", "mode": 0o400, "fieldRef": {"fieldPath": "metadata.name"}},
    ]
    facts = [resource(n, "1m" if n.endswith("cpu") else "1Mi") for n in FACTS]
    volumes = [
        {"name": "plain", "downwardAPI": {"items": [*names, *facts]}},
        {"name": "closed", "downwardAPI": {"items": names, "defaultMode": 0o440}},
        {
            "name": "pro",
            "projected": {"sources": [{"downwardAPI": {"items": [*names, *facts]}}]},
        },
    ]
    container["volumeMounts"] = mounts("plain", "closed", "pro")
    refs = {n: {"resourceFieldRef": {"resource": n, "divisor": "1Mi"}} for n in STORAGE}
    container["env"] = [
        {"name": "LIMIT", "valueFrom": refs["limits.ephemeral-storage"]},
        {"name": "REQUEST", "valueFrom": refs["requests.ephemeral-storage"]},
    ]
    return volumes


TELL = f"""
    for v in plain pro; do for f in {" ".join(FACTS)}; do echo $(cat /$v/$f); done; done
    for v in plain closed pro; do stat -L -c '%a %g' /$v/name /$v/own; cat /$v/name; echo; done
    echo $LIMIT $REQUEST
"""


async def test_the_downward_api_tells_names_and_resources_with_their_modes(lab):
    limits = {"cpu": "1250m", "memory": "64Mi", "ephemeral-storage": "64Mi"}
    requests = {"cpu": "250m", "memory": "32Mi", "ephemeral-storage": "32Mi"}
    lab.allocatable["ephemeral-storage"] = Decimal(3 << 30)
    app = shell(TELL, resources={"limits": limits, "requests": requests})
    (said,) = await run(lab, app, volumes=told_both_ways(app))
    named = ["644 0", "400 0", "web", "440 0", "400 0", "web", "644 0", "400 0", "web"]
    figures = ["1250", "64", "250", "32"]
    assert said == [*figures, *figures, *named, "64 32"]


async def test_without_limits_the_downward_api_tells_what_the_node_has(lab):
    lab.allocatable["ephemeral-storage"] = Decimal(3 << 30)
    app = shell(TELL)
    volumes = told_both_ways(app)
    context = {"runAsUser": 1001, "fsGroup": 123}
    (said,) = await run(lab, app, volumes=volumes, securityContext=context)
    named = ["644 123", "440 123", "web", "440 123", "440 123", "web", "644 123", "440 123", "web"]
    figures = ["2000", "1024", "0", "0"]
    assert said == [*figures, *figures, *named, "3072 0"]
