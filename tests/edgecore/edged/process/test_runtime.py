"""The process runtime with real processes and real files."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgecore.edged.process import ProcessRuntime
from edgecore.edged.runtime import (
    ContainerConfig,
    ContainerPhase,
    ContainerSecurity,
    ContainerStartError,
    Mount,
    PodIdentity,
    RuntimeVersion,
    SandboxConfig,
)

LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) [FP] .*")
POD = PodIdentity("default", "web", "uid-1")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and users need root")
needs_user = pytest.mark.skipif(os.geteuid() == 0, reason="as root everything is allowed")
pytestmark = pytest.mark.timeout(20)  # each start is a new interpreter, on a busy machine


class Pod:
    """One sandbox in one runtime, with the few steps that every test takes."""

    def __init__(self, runtime, folder, pod=POD):
        self.runtime = runtime
        self.config = SandboxConfig(pod, 0, pod.name, str(folder / "logs"), {}, {})
        self.id = ""

    async def start(self, *script, name="main", attempt=0, **settings):
        self.id = self.id or await self.runtime.run_sandbox(self.config)
        config = ContainerConfig(
            name,
            attempt,
            "any",
            ["/bin/sh", "-c", *script],
            log_path=f"{name}/{attempt}.log",
            **settings,
        )
        container_id = await self.runtime.create_container(self.id, config, self.config)
        await self.runtime.start_container(container_id)
        return container_id

    async def state(self, container_id):
        for sandbox in await self.runtime.list_sandboxes():
            for container in sandbox.containers:
                if container.id == container_id:
                    return container
        return None

    async def exited(self, container_id):
        while (state := await self.state(container_id)).phase is not ContainerPhase.EXITED:
            await asyncio.sleep(0.01)
        return state

    def log(self, name="main", attempt=0):
        return Path(self.config.log_dir, name, f"{attempt}.log").read_text().splitlines()

    async def log_has(self, text, name="main", attempt=0):
        while not any(text in line for line in self.log(name, attempt)):
            await asyncio.sleep(0.01)


@pytest.fixture
async def runtime(tmp_path):
    runtime = ProcessRuntime(tmp_path / "runtime")
    yield runtime
    for sandbox in await runtime.list_sandboxes():
        await runtime.remove_sandbox(sandbox.id)


@pytest.fixture
def pod(runtime, tmp_path):
    return Pod(runtime, tmp_path)


def group_pids(pid):
    """Return the processes in the group `pid` that are not zombies."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def pid_of(runtime_dir, container_id):
    facts = dict(
        line.split(" ", 1)
        for line in (runtime_dir / "containers" / container_id / "started").read_text().splitlines()
    )
    return int(facts["pid"])


async def test_version_names_the_process_runtime(runtime):
    assert await runtime.version() == RuntimeVersion("process", "0.1.0")


async def test_output_goes_to_the_log_in_cri_format_and_the_exit_code_is_kept(pod):
    container = await pod.start("echo out; echo err >&2; printf tail; exit 3")
    state = await pod.exited(container)
    assert (state.exit_code, state.reason) == (3, "Error")
    assert 0 < state.created_s <= state.started_s <= state.finished_s <= time.time()
    assert all(LOG_LINE.fullmatch(line) for line in pod.log())
    assert sorted(line.split(" ", 1)[1] for line in pod.log()) == [
        "stderr F err",
        "stdout F out",
        "stdout F tail",
    ]


async def test_a_long_line_is_cut_into_partial_lines(pod):
    container = await pod.start("head -c 40000 /dev/zero | tr '\\0' x; echo; echo next")
    await pod.exited(container)
    parts = [line.split(" ", 3)[2:] for line in pod.log()]
    assert [(tag, len(text)) for tag, text in parts[:-1]] == [
        ("P", 16384),
        ("P", 16384),
        ("F", 7232),
    ]
    assert parts[-1] == ["F", "next"]


async def test_environment_is_what_was_given_and_a_path(pod):
    container = await pod.start("env; pwd", env=[("COLOUR", "blue sky")], working_dir="/usr")
    await pod.exited(container)
    said = [line.split(" ", 3)[3] for line in pod.log()]
    names = {line.partition("=")[0] for line in said}
    assert "COLOUR=blue sky" in said
    assert "/usr" in said
    assert names - {"_", "SHLVL", "OLDPWD", "/usr"} == {"COLOUR", "PATH", "PWD"}


async def test_success_is_completed_and_a_signal_is_128_and_its_number(pod):
    good = await pod.start("true", name="good")
    killed = await pod.start("kill -SEGV $$", name="killed")
    assert (await pod.exited(good)).reason == "Completed"
    assert (await pod.exited(killed)).exit_code == 128 + signal.SIGSEGV


async def test_a_container_without_a_command_is_refused(pod, runtime):
    config = ContainerConfig("web", 0, "nginx:1")
    with pytest.raises(ContainerStartError) as caught:
        await runtime.create_container("none", config, pod.config)
    assert caught.value.reason == "CreateContainerConfigError"
    assert caught.value.message == (
        'the process runtime has no images: container "web" needs `command`'
    )


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("nosuch", 'exec: "nosuch": executable file not found in $PATH'),
        ("/no/such", 'exec: "/no/such": stat /no/such: no such file or directory'),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied'),
    ],
)
async def test_a_command_that_cannot_run_reads_as_runc_words_it(pod, runtime, command, problem):
    sandbox = await runtime.run_sandbox(pod.config)
    config = ContainerConfig("main", 0, "any", [command])
    container = await runtime.create_container(sandbox, config, pod.config)
    with pytest.raises(ContainerStartError) as caught:
        await runtime.start_container(container)
    assert caught.value.reason == "RunContainerError"
    assert caught.value.message == f"unable to start container process: {problem}"
    state = await pod.state(container)
    assert (state.phase, state.exit_code, state.reason) == (
        ContainerPhase.EXITED,
        128,
        "StartError",
    )
    assert (state.message, state.started_s) == (problem, 0.0)


async def test_stop_lets_a_process_end_by_itself(pod, runtime):
    container = await pod.start(
        "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done"
    )
    await pod.log_has("up")
    await runtime.stop_container(container, 10.0)
    assert (await pod.state(container)).exit_code == 7
    assert any(line.endswith("stdout F bye") for line in pod.log())


async def test_stop_kills_after_the_grace(pod, runtime, tmp_path):
    container = await pod.start("trap '' TERM; echo up; while :; do sleep 0.05; done")
    await pod.log_has("up")
    pid = pid_of(tmp_path / "runtime", container)
    before = time.monotonic()
    await runtime.stop_container(container, 0.4)
    assert 0.4 <= time.monotonic() - before < 5
    assert (await pod.state(container)).exit_code == 137
    assert group_pids(pid) == []


async def test_what_a_container_leaves_in_the_background_ends_with_it(pod, tmp_path):
    container = await pod.start("sleep 300 & echo up; exit 0")
    assert (await pod.exited(container)).exit_code == 0
    assert group_pids(pid_of(tmp_path / "runtime", container)) == []


async def test_stop_and_remove_of_what_is_gone_succeed(runtime):
    await runtime.stop_container("nope", 1.0)
    await runtime.remove_container("nope")
    await runtime.stop_sandbox("nope")
    await runtime.remove_sandbox("nope")
    assert await runtime.list_sandboxes() == []


async def test_a_stopped_sandbox_is_not_ready_and_a_removed_one_is_gone(pod, runtime, tmp_path):
    container = await pod.start("sleep 300")
    pid = pid_of(tmp_path / "runtime", container)
    (before,) = await runtime.sandbox("uid-1")
    assert before.ready
    assert before.pod == POD
    await runtime.stop_sandbox(pod.id)
    (stopped,) = await runtime.list_sandboxes()
    assert not stopped.ready
    assert stopped.containers[0].phase is ContainerPhase.EXITED
    await runtime.remove_sandbox(pod.id)
    assert await runtime.list_sandboxes() == []
    assert group_pids(pid) == []
    assert list((tmp_path / "runtime" / "containers").iterdir()) == []


async def test_a_second_start_of_a_container_is_refused(pod, runtime):
    container = await pod.start("sleep 300")
    with pytest.raises(ContainerStartError, match="already started"):
        await runtime.start_container(container)
    assert (await pod.state(container)).phase is ContainerPhase.RUNNING


async def test_containers_outlive_a_killed_agent_and_are_adopted(pod, runtime, tmp_path):
    agent = """
import asyncio, os, signal, sys
from edgecore.edged.process import ProcessRuntime
from edgecore.edged.runtime import ContainerConfig, PodIdentity, SandboxConfig
async def main(folder):
    runtime = ProcessRuntime(folder + "/runtime")
    sandbox = SandboxConfig(PodIdentity("default", "web", "uid-1"), 0, "web", folder + "/logs", {}, {})
    sandbox_id = await runtime.run_sandbox(sandbox)
    script = "trap 'echo seen; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    config = ContainerConfig("main", 2, "any", ["sh", "-c", script], log_path="main/2.log")
    container = await runtime.create_container(sandbox_id, config, sandbox)
    await runtime.start_container(container)
    print(sandbox_id, container, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main(sys.argv[1]))
"""
    script = tmp_path / "agent.py"
    script.write_text(agent)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(tmp_path), stdout=subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL
    sandbox_id, container = said.decode().split()

    (adopted,) = await runtime.list_sandboxes()
    assert (adopted.id, adopted.ready, adopted.pod) == (sandbox_id, True, POD)
    assert [(c.id, c.attempt, c.phase) for c in adopted.containers] == [
        (container, 2, ContainerPhase.RUNNING)
    ]
    await pod.log_has("up", attempt=2)
    await runtime.stop_container(container, 10.0)
    assert (await pod.state(container)).exit_code == 5
    assert any(line.endswith("stdout F seen") for line in pod.log("main", 2))


async def test_a_container_whose_supervisor_died_too_ended_unknown(pod, tmp_path):
    container = await pod.start("sleep 300")
    started = tmp_path / "runtime" / "containers" / container / "started"
    facts = dict(line.split(" ", 1) for line in started.read_text().splitlines())
    os.kill(int(facts["supervisor_pid"]), signal.SIGKILL)
    os.killpg(int(facts["pid"]), signal.SIGKILL)
    state = await pod.exited(container)
    assert (state.exit_code, state.reason) == (137, "ContainerStatusUnknown")
    assert (await pod.state(container)).finished_s == state.finished_s  # told once, then remembered


@pytest.mark.parametrize("what", ["boot_id", "ticks"])
async def test_a_recycled_process_number_is_not_taken_for_ours(pod, runtime, tmp_path, what):
    stranger = await asyncio.create_subprocess_exec("sleep", "300", start_new_session=True)
    container = await pod.start("exit 0")
    await pod.exited(container)
    folder = tmp_path / "runtime" / "containers" / container
    (folder / "exited").unlink()
    stat = Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    facts = {"at": "1.0", "boot_id": boot, "pid": stranger.pid, "ticks": stat[19]}
    facts[what] = "1"  # as after a reboot, or as another process that got the number
    (folder / "started").write_text("".join(f"{k} {v}\n" for k, v in facts.items()))
    state = await pod.state(container)
    assert (state.phase, state.reason) == (ContainerPhase.EXITED, "ContainerStatusUnknown")
    await runtime.remove_container(container)
    assert stranger.returncode is None
    stranger.kill()
    await stranger.wait()


async def test_a_sandbox_of_an_earlier_boot_is_not_ready(pod, runtime, tmp_path):
    await runtime.run_sandbox(pod.config)
    (record,) = (tmp_path / "runtime" / "sandboxes").glob("*/sandbox.json")
    text = re.sub(r'"boot_id":"[^"]*"', '"boot_id":"another"', record.read_text())
    record.write_text(text)
    (state,) = await ProcessRuntime(tmp_path / "runtime").list_sandboxes()
    assert not state.ready


async def test_images_are_present_but_their_names_are_checked(runtime):
    assert (await runtime.image("nginx:1")).names == ("nginx:1",)
    assert (await runtime.pull("nginx:1")).id == "nginx:1"
    with pytest.raises(ContainerStartError, match="InvalidImageName"):
        await runtime.image("Not An Image")


@needs_root
async def test_mounts_appear_in_the_container_and_nowhere_else(pod, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "key").write_text("one\n")
    (tmp_path / "note").write_text("two\n")
    mounts = [
        Mount(str(tmp_path / "config"), "/etc/armadillo-test/config", read_only=True),
        Mount(str(tmp_path / "note"), "/dev/armadillo-test-note"),
    ]
    container = await pod.start(
        "cat /etc/armadillo-test/config/key /dev/armadillo-test-note;"
        "echo three >> /dev/armadillo-test-note;"
        "echo x > /etc/armadillo-test/config/key || echo read only;"
        "echo mine > /etc/armadillo-test/own; echo mine > /armadillo-test-own; cat /proc/1/comm",
        mounts=mounts,
    )
    await pod.exited(container)
    said = [line.split(" ", 3)[3] for line in pod.log() if " stdout " in line]
    assert said[:3] == ["one", "two", "read only"]
    assert (tmp_path / "note").read_text() == "two\nthree\n"
    for path in ("/etc/armadillo-test", "/dev/armadillo-test-note", "/armadillo-test-own"):
        assert not Path(path).exists()
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


@needs_root
async def test_a_mounted_file_follows_its_host_directory(pod, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "key").write_text("old\n")
    container = await pod.start(
        "until grep new /config/key; do sleep 0.05; done",
        mounts=[Mount(str(tmp_path / "config"), "/config")],
    )
    (tmp_path / "config" / "key").write_text("new\n")
    assert (await pod.exited(container)).exit_code == 0


@needs_root
async def test_a_missing_mount_source_is_named(pod):
    with pytest.raises(ContainerStartError, match="mount source /no/such: No such file") as caught:
        await pod.start("true", mounts=[Mount("/no/such", "/x")])
    assert caught.value.reason == "RunContainerError"


@needs_root
async def test_user_group_and_read_only_root_are_honoured(pod):
    security = ContainerSecurity(
        run_as_user=1234,
        run_as_group=2345,
        supplemental_groups=(3456,),
        read_only_rootfs=True,
        no_new_privileges=True,
    )
    script = "id -u; id -g; id -G; grep NoNewPrivs /proc/self/status; echo x > /x"
    container = await pod.start(script, security=security)
    assert (await pod.exited(container)).exit_code != 0
    lines = [line.split(" ", 3)[1:] for line in pod.log()]
    assert [text for stream, _, text in lines if stream == "stdout"] == [
        "1234",
        "2345",
        "2345 3456",
        "NoNewPrivs:\t1",
    ]
    assert "ead-only" in lines[-1][2] or "denied" in lines[-1][2]


async def test_mount_propagation_is_refused_by_name(pod):
    with pytest.raises(ContainerStartError, match="has no mount propagation HostToContainer"):
        await pod.start("true", mounts=[Mount("/etc", "/x", propagation="HostToContainer")])


@needs_user
async def test_without_root_a_mount_is_refused_by_name(pod):
    with pytest.raises(ContainerStartError, match="mount at /x needs root"):
        await pod.start("true", mounts=[Mount("/etc", "/x")])


@needs_user
async def test_without_root_another_user_is_refused(pod):
    with pytest.raises(ContainerStartError, match="runAsUser 4242 needs edgecore to run as root"):
        await pod.start("true", security=ContainerSecurity(run_as_user=4242))


async def test_a_thousand_lines_arrive_in_order(pod):
    container = await pod.start("i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done")
    await pod.exited(container)
    assert [line.split(" ", 3)[3] for line in pod.log()] == [f"line {i}" for i in range(1000)]


async def test_a_renamed_log_file_is_left_for_a_new_one(runtime, tmp_path):
    pod = Pod(runtime, tmp_path)
    made = await pod.start("n=0; while :; do echo line-$n; n=$((n+1)); sleep 0.02; done")
    await pod.log_has("line-1")
    file = Path(pod.config.log_dir, "main", "0.log")
    old = file.with_name("0.log.old")
    file.rename(old)
    await runtime.reopen_log(made)
    while not file.exists():
        await asyncio.sleep(0.01)
    await pod.log_has("line-")
    last = int(old.read_text().rsplit("line-", 1)[1])
    first = int(file.read_text().splitlines()[0].rsplit("line-", 1)[1])
    assert first == last + 1
    await runtime.remove_sandbox(pod.id)


async def test_usage_is_that_of_the_whole_process_group(runtime, tmp_path):
    pod = Pod(runtime, tmp_path)
    burn = "while :; do :; done"
    made = await pod.start(f"sh -c '{burn}' & exec sleep 100")
    while not (found := await runtime.usages()) or found[0].cpu_ns < 50_000_000:
        await asyncio.sleep(0.05)
    assert [u.id for u in found] == [made]
    assert found[0].memory_rss_bytes > 0
    await runtime.remove_sandbox(pod.id)
    assert await runtime.usages() == []
