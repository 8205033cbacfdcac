"""Names, resolvers, namespaces and ports: what a container itself sees, on a real containerd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path

import pytest

from tests.fakes.pods import pod_object
from tests.integration.edged.onenode import PATIENCE_S, log, sandbox_problem, shell

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(90)]


async def test_names_and_resolver_are_what_the_pod_asked_for(node):
    said = await node.said(
        "hostname; hostname -f; cat /etc/resolv.conf; grep -v '^#' /etc/hosts | grep -v ip6- | cut -f2-",
        settings={"cluster_dns": ("10.96.0.10",), "cluster_domain": "edge.test"},
        hostname="box",
        subdomain="shop",
        hostAliases=[{"ip": "192.0.2.9", "hostnames": ["printer", "printer.lan"]}],
        dnsConfig={"searches": ["lan"], "options": [{"name": "ndots", "value": "2"}]},
    )
    full = "box.shop.default.svc.edge.test"
    assert said[:2] == ["box", full]
    assert "nameserver 10.96.0.10" in said
    searched = next(line for line in said if line.startswith("search "))
    assert searched.startswith("search default.svc.edge.test svc.edge.test edge.test")
    assert searched.endswith(" lan")
    assert "options ndots:2" in said
    assert said[-4:] == ["localhost", f"{full}\tbox", "", "printer\tprinter.lan"]


async def test_the_full_name_is_the_kernels_if_the_pod_asks_and_it_fits(node):
    spec = {"subdomain": "shop", "setHostnameAsFQDN": True}
    assert await node.said("cat /proc/sys/kernel/hostname", **spec) == [
        "web.shop.default.svc.cluster.local"
    ]


async def test_a_full_name_that_does_not_fit_keeps_the_pod_from_its_sandbox(node):
    spec = {"hostname": "h" * 50, "subdomain": "shop", "setHostnameAsFQDN": True}
    async with node.with_settings() as edge:
        message = await sandbox_problem(edge, **spec)
    assert "is too long (64 characters is the max, 81 characters requested)" in message


def namespace(name):
    return str(Path("/proc/self/ns", name).readlink())


async def test_the_hosts_namespaces_are_shared_only_if_asked_for(node):
    script = "readlink /proc/self/ns/net; readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc"
    own = [namespace(name) for name in ("net", "pid", "ipc")]
    apart = await node.said(script)
    assert not set(apart) & set(own)


async def test_a_pod_in_the_hosts_namespaces_sees_the_host_and_its_hosts_file(node):
    script = (
        "for n in net pid ipc; do readlink /proc/self/ns/$n; done; head -1 /etc/hosts; hostname"
    )
    own = [namespace(name) for name in ("net", "pid", "ipc")]
    spec = {"hostNetwork": True, "hostPID": True, "hostIPC": True}
    said = await node.said(script, **spec)
    assert said == [*own, "# Kubernetes-managed hosts file (host network).", os.uname().nodename]


async def test_containers_see_each_others_processes_if_they_share_them(node):
    other = shell("exec sleep 613", "other")
    script = (
        "until ps | grep -q '[s]leep 613'; do sleep 0.1; done; echo seen; "
        "kill $(ps | awk '/[s]leep 613/ {print $1}')"
    )
    async with node.with_settings() as edge:
        pod = pod_object(
            containers=[shell(script), other], shareProcessNamespace=True, restartPolicy="Never"
        )
        await edge.put("Pod", pod)
        await edge.until(lambda: edge.phase() == "Failed", PATIENCE_S)
        assert log(edge) == ["seen"]


async def test_a_host_port_leads_to_the_container(node):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ports = [{"containerPort": 8080, "hostPort": port, "hostIP": "127.0.0.1"}]
    app = shell("echo hello > /tmp/index.html; exec httpd -f -p 8080 -h /tmp", ports=ports)
    async with node.with_settings() as edge:
        await edge.put("Pod", pod_object(containers=[app], terminationGracePeriodSeconds=0))
        answer = await answered(port)
    assert answer.endswith(b"hello\n")


async def answered(port, host="127.0.0.1"):
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                if answer := await reader.read():
                    writer.close()
                    return answer
            await asyncio.sleep(0.1)


async def inside(pid, code, *args):
    """Run Python `code` in the network of process `pid`; return the running process."""
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", code, *args]
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)


ANSWER = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 8081)); print("up", flush=True)
while True:
    asked, who = s.recvfrom(512); s.sendto(b"server " + asked, who)
"""
ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
for _ in range(30):  # UDP may lose one
    try:
        s.sendto(b"heard", (sys.argv[1], 8081)); print(s.recv(512).decode()); break
    except OSError:
        pass
"""


async def test_pods_reach_each_other_and_the_node_reaches_them_by_http_and_udp(node):
    serve = "hostname > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"
    fetch = "until wget -qO- http://$SERVER:8080/; do sleep 0.1; done; exec sleep 1000"
    ends = {"terminationGracePeriodSeconds": 0}
    async with node.with_settings() as edge:
        await edge.put("Pod", pod_object("server", "u-server", [shell(serve)], **ends))
        await edge.until(lambda: edge.phase("server") == "Running", PATIENCE_S)
        address = edge.status("server")["podIP"]
        client = shell(fetch, env=[{"name": "SERVER", "value": address}])
        await edge.put("Pod", pod_object(containers=[client], **ends))
        await edge.until(lambda: log(edge) == ["server"], PATIENCE_S)
        assert (await answered(8080, address)).endswith(b"server\n")

        listed = {s.pod.name: s.containers[0].id for s in await node.runtime.list_sandboxes()}
        pids = {usage.id: usage.pid for usage in await node.runtime.usages()}
        server = await inside(pids[listed["server"]], ANSWER)
        try:
            assert await asyncio.wait_for(server.stdout.readline(), PATIENCE_S) == b"up\n"
            for pid in (pids[listed["web"]], os.getpid()):
                asker = await inside(pid, ASK, address)
                answer, _ = await asyncio.wait_for(asker.communicate(), PATIENCE_S)
                assert answer == b"server heard\n"
        finally:
            server.kill()
            await server.wait()
        await edge.drop("Pod", "server", "u-server")


async def test_each_container_has_process_numbers_of_its_own_unless_the_pod_shares_them(node):
    first, second = shell("echo $$$$"), shell("echo $$$$", "other")  # `$$` is a `$` in a command
    async with node.with_settings() as edge:
        await edge.put("Pod", pod_object(containers=[first, second], restartPolicy="Never"))
        await edge.until(lambda: edge.phase() == "Succeeded", PATIENCE_S)
        assert (log(edge), log(edge, "other")) == (["1"], ["1"])
