"""What [NodeConformance] demands of one container: command, environment, hosts file, users and rights."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.pods import config_map, pod_object, secret
from tests.fakes.registry import FakeRegistry
from tests.integration.edged.lab import FOREVER, IMAGE, LONG_S, container, shell

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(180)]

PATIENCE_S = 2 * LONG_S
LINKS = "ip link add dummy0 type dummy 2>&1 | grep -c 'Operation not permitted'"
PRIVILEGES = "grep NoNewPrivs /proc/self/status | cut -f2"


@pytest.fixture
async def registry(tmp_path, cri):
    with FakeRegistry(tmp_path).running() as registry:
        yield registry
        for image in await cri.images():
            if any(registry.host in name for name in image.names):
                await cri.remove_image(image.id)


def program(name, image=IMAGE, **fields):
    return container(name, image, **fields)


async def ran(lab, *apps, silent=(), **spec):
    """Let every container of a pod end; return what each printed."""
    names = [app["name"] for app in apps]
    async with lab.pod(*apps, restartPolicy="Never", **spec):
        await lab.until(lambda: lab.phase() in ("Succeeded", "Failed"), PATIENCE_S)
        # containerd may write the last lines of a log a moment after it told of the end.
        said, before = {}, None
        async with asyncio.timeout(LONG_S):
            while said != before or not all(said[name] for name in names if name not in silent):
                await asyncio.sleep(0.1)
                said, before = {name: lab.log(name) for name in names}, said
        return said


async def test_command_and_arguments_replace_those_of_the_image_as_the_pod_says(lab, registry):
    image = registry.put("team/says", Entrypoint=["busybox", "echo", "image"], Cmd=["default"])
    mine, args = {"command": ["busybox", "echo", "mine"]}, {"args": ["override", "arguments"]}
    said = await ran(
        lab,
        program("blank", image),
        program("args", image, **args),
        program("command", image, **mine),
        program("both", image, **mine, **args),
    )
    assert said == {
        "blank": ["image default"],
        "args": ["image override arguments"],
        "command": ["mine"],
        "both": ["mine override arguments"],
    }


def field(name, path):
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def resource(name, of):
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": of}}}


ITSELF = [
    field("POD_NAME", "metadata.name"),
    field("POD_NAMESPACE", "metadata.namespace"),
    field("POD_UID", "metadata.uid"),
    field("POD_IP", "status.podIP"),
    field("POD_IPS", "status.podIPs"),
    field("HOST_IP", "status.hostIP"),
    field("HOST_IPS", "status.hostIPs"),
    resource("CPU_LIMIT", "limits.cpu"),
    resource("MEMORY_LIMIT", "limits.memory"),
    resource("CPU_REQUEST", "requests.cpu"),
    resource("MEMORY_REQUEST", "requests.memory"),
]
LIMITED = {
    "requests": {"cpu": "250m", "memory": "32Mi"},
    "limits": {"cpu": "1250m", "memory": "64Mi"},
}


async def test_variables_tell_a_container_of_itself_its_objects_and_each_other(lab):
    data = {"data-1": "value-1\n", "data-2": "value-2\n"}
    await lab.put("Secret", secret("keys", **data))
    await lab.put("ConfigMap", config_map("words", **data))
    composed = [
        {"name": "FOO", "value": "foo-value"},
        {"name": "FOOBAR", "value": "$(FOO);;$(FOO)"},
        {"name": "TEST_VAR", "value": "test-value"},
    ]
    one = {"name": "SECRET_DATA"}
    one["valueFrom"] = {"secretKeyRef": {"name": "keys", "key": "data-1"}}
    other = {"name": "CONFIG_DATA"}
    other["valueFrom"] = {"configMapKeyRef": {"name": "words", "key": "data-1"}}
    sources = [
        {"secretRef": {"name": "keys"}},
        {"prefix": "p-", "secretRef": {"name": "keys"}},
        {"prefix": "c-", "configMapRef": {"name": "words"}},
    ]
    env = [*composed, *ITSELF, one, other]
    script = 'TEST_VAR=wrong echo "$(TEST_VAR)"'
    said = await ran(
        lab,
        program("all", command=["env"], env=env, envFrom=sources, resources=LIMITED),
        program("free", command=["env"], env=ITSELF),
        program("command", command=["sh", "-c", script], env=composed),
        program("args", command=["sh", "-c"], args=[script], env=composed),
    )
    address = lab.status()["podIP"]
    wanted = {
        *("FOOBAR=foo-value;;foo-value", "SECRET_DATA=value-1", "CONFIG_DATA=value-1"),
        *("data-1=value-1", "data-2=value-2", "p-data-1=value-1", "c-data-2=value-2"),
        *("POD_NAME=web", "POD_NAMESPACE=default", "POD_UID=u-1"),
        *(f"POD_IP={address}", f"POD_IPS={address}"),
        *("HOST_IP=192.0.2.7", "HOST_IPS=192.0.2.7"),
        *("CPU_LIMIT=2", f"MEMORY_LIMIT={64 << 20}", "CPU_REQUEST=1", f"MEMORY_REQUEST={32 << 20}"),
    }
    assert wanted - set(said["all"]) == set()
    # Without limits of its own a container may use what the node has.
    assert {"CPU_LIMIT=2", f"MEMORY_LIMIT={2**30}"} - set(said["free"]) == set()
    assert said["command"] == said["args"] == ["test-value"]


async def test_a_pod_of_the_hosts_network_has_the_hosts_address(lab):
    said = await ran(lab, program("app", command=["env"], env=ITSELF), hostNetwork=True)
    assert {"HOST_IP=192.0.2.7", "POD_IP=192.0.2.7"} <= set(said["app"])
    status = lab.status()
    assert status["podIP"] == status["hostIP"] == "192.0.2.7"


async def test_a_sub_path_that_leads_out_keeps_its_container_waiting_until_it_is_mended(lab):
    def app(name, value, script=FOREVER):
        env = [{"name": "POD_NAME", "value": value}, field("NOTE", "metadata.annotations['sub']")]
        mounts = [
            {"name": "work", "mountPath": "/sub", "subPathExpr": "$(POD_NAME)"},
            {"name": "work", "mountPath": "/all"},
        ]
        return shell(script, name, env=env, volumeMounts=mounts)

    mended = app("mended", "foo", "touch /sub/file; ls /all/mine/foo; " + FOREVER)
    mended["volumeMounts"][0]["subPathExpr"] = "$(NOTE)/$(POD_NAME)"
    apps = [app("up", ".."), app("absolute", "/tmp"), mended, app("fine", "web")]
    volumes = [{"name": "work", "emptyDir": {}}]
    async with lab.pod(*apps, metadata={"annotations": {"other": "x"}}, volumes=volumes) as pod:
        held = ("up", "absolute", "mended")
        await lab.until(lambda: all(refusal(lab, name) for name in held), PATIENCE_S)
        await lab.until(lambda: "running" in lab.state("fine"))
        pod["metadata"]["annotations"]["sub"] = "mine"
        await lab.skip(pod, 15)
        await lab.until(lambda: lab.log("mended") == ["file"], PATIENCE_S)
        await lab.until(lambda: "running" in lab.state("mended"))
        assert refusal(lab, "up")
        pod["metadata"]["annotations"]["sub"] = "elsewhere"
        before = lab.of("mended")
        await lab.put("Pod", pod)
        await lab.quiet(lambda: lab.of("mended") == before, 1)


def refusal(lab, name):
    return lab.state(name).get("waiting", {}).get("reason") == "CreateContainerConfigError"


async def test_the_hosts_file_is_the_nodes_work_unless_the_container_brings_its_own(lab):
    original = {"name": "hosts", "mountPath": "/etc/hosts-original"}
    own = {"name": "hosts", "mountPath": "/etc/hosts"}
    compare = "cmp -s /etc/hosts /etc/hosts-original && echo same || echo other"
    script = f"head -1 /etc/hosts; {compare}; {FOREVER}"
    hosts = {"name": "hosts", "hostPath": {"path": "/etc/hosts", "type": "FileOrCreate"}}
    plain = [shell(script, name, volumeMounts=[original]) for name in ("one", "two")]
    three = shell(script, "three", volumeMounts=[original, own])
    aliases = [{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}]
    header = "# Kubernetes-managed hosts file."
    async with lab.running():
        pods = {
            "plain": pod_object("plain", "u-plain", [*plain, three], volumes=[hosts]),
            "host": pod_object("host", "u-host", plain, volumes=[hosts], hostNetwork=True),
            "aliased": pod_object(
                "aliased", "u-aliased", [shell(f"tail -1 /etc/hosts; echo; {FOREVER}", "one")]
            ),
        }
        pods["aliased"]["spec"]["hostAliases"] = aliases
        for made in pods.values():
            await lab.put("Pod", made)
        for name, made in pods.items():
            for app in made["spec"]["containers"]:
                await lab.until(
                    lambda n=name, a=app: lab.log(a["name"], 0, n, f"u-{n}")[1:], PATIENCE_S
                )
        said = {
            (name, app["name"]): lab.log(app["name"], 0, name, f"u-{name}")
            for name, made in pods.items()
            for app in made["spec"]["containers"]
        }
        for name in pods:
            await lab.gone(name, f"u-{name}")
    assert said["plain", "one"] == said["plain", "two"] == [header, "other"]
    assert said["plain", "three"][-1] == "same"
    assert not any(line.startswith(header) for line in said["host", "one"] + said["host", "two"])
    assert said["aliased", "one"][0] == "123.45.67.89\tfoo\tbar"


async def test_users_rights_and_the_root_file_system_are_those_of_the_security_context(
    lab, registry
):
    def app(name, script, image=IMAGE, **context):
        command = {"command": ["/bin/sh", "-c", script]}
        return program(name, image, **command, securityContext=context)

    unprivileged = registry.put("team/user", User="1234")
    apps = [
        app("nobody", "id -u", runAsUser=65534),
        app("root", "id -u", runAsUser=0),
        app("asked", "id -u", runAsNonRoot=True, runAsUser=1000),
        app("image", "id -u", unprivileged, runAsNonRoot=True),
        app("closed", "echo test > /file", readOnlyRootFilesystem=True),
        app("open", "echo test > /file", readOnlyRootFilesystem=False),
        app("plain", LINKS, privileged=False),
        app("privileged", LINKS, privileged=True),
        app("silent", PRIVILEGES, runAsUser=1000),
        app("never", PRIVILEGES, runAsUser=1000, allowPrivilegeEscalation=False),
        app("may", PRIVILEGES, runAsUser=1000, allowPrivilegeEscalation=True),
    ]
    said = await ran(lab, *apps, silent=("open",))
    codes = {a["name"]: lab.state(a["name"])["terminated"]["exitCode"] for a in apps}
    assert said.pop("closed") == ["/bin/sh: can't create /file: Read-only file system"]
    assert said == {
        "nobody": ["65534"],
        "root": ["0"],
        "asked": ["1000"],
        "image": ["1234"],
        "open": [],
        "plain": ["1"],
        "privileged": ["0"],
        "silent": ["0"],
        "never": ["1"],
        "may": ["0"],
    }
    # `grep -c` fails where it counts nothing.
    assert {name for name, code in codes.items() if code} == {"closed", "privileged"}


async def test_root_is_refused_where_the_pod_forbids_it_whether_asked_for_or_by_default(lab):
    explicit = shell("id -u", "explicit", securityContext={"runAsNonRoot": True, "runAsUser": 0})
    implicit = shell("id -u", "implicit", securityContext={"runAsNonRoot": True})
    async with lab.pod(explicit, implicit, restartPolicy="Never"):
        await lab.until(lambda: refusal(lab, "explicit") and refusal(lab, "implicit"), PATIENCE_S)
        failed = [message for _, reason, message in lab.events() if reason == "Failed"]
    where = '(pod: "web_default(u-1)", container: explicit)'
    assert f"Error: container's runAsUser breaks non-root policy {where}" in failed
    assert lab.phase() == "Pending"


async def test_a_pod_for_another_operating_system_is_rejected(lab):
    async with lab.pod(shell(), os={"name": "windows"}):
        await lab.until(lambda: lab.phase() == "Failed", PATIENCE_S)
        assert lab.status()["reason"] == "PodOSNotSupported"
        assert "PodOSNotSupported" in lab.reasons()
