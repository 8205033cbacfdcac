"""What `devices.py` runs against: kubecore, cloudcore, edgecore and mosquitto as processes, and the API as HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho
import yaml
from processes import MIB
from scale_parts import free_port, rss_bytes

from armadillo.up.objects import cluster_objects
from armadillo.up.options import UpOptions
from armadillo.up.plan import make_plan
from armadillo.up.state import open_state

HERE = Path(__file__).parent
READY_S = 60.0
DEVICES = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices"
MODELS = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devicemodels"


@dataclass
class Watch:
    """What edgecore used while it was watched."""

    before_mib: float
    most_mib: float
    cpu_s: float = 0.0


class World:
    """Everything that runs; left, it is gone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._layout = open_state(folder / "state")
        self._plan = make_plan(UpOptions(folder / "state", runtime="process"), self._layout)
        self._port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        pair = self._plan.certificates.admin
        self._tls = ssl.create_default_context(cafile=str(self._plan.certificates.ca_file))
        self._tls.load_cert_chain(pair.cert_file, pair.key_file)
        self._api: http.client.HTTPSConnection | None = None

    def __enter__(self) -> Self:
        try:
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        for process in reversed(self._processes.values()):
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def call(
        self, verb: str, path: str, body: object = None, media: str = "application/json"
    ) -> Any:
        """Make a request of the API; return the answer's JSON."""
        content = None if body is None else json.dumps(body).encode()
        for attempt in (1, 2):
            if self._api is None:
                port = self._plan.ports["kubecore"]
                self._api = http.client.HTTPSConnection(
                    "127.0.0.1", port, context=self._tls, timeout=30
                )
            try:
                self._api.request(verb, path, content, {"Content-Type": media})
                reply = self._api.getresponse()
                answer = reply.read()
            except (OSError, http.client.HTTPException):
                self._api = None
                if attempt == 2:
                    raise
                continue
            if reply.status >= 400:
                raise RuntimeError(f"{verb} {path}: {reply.status} {answer[:300]!r}")
            return json.loads(answer)
        raise AssertionError("the second attempt returns or raises")

    def put_devices(self, prefix: str, count: int, props: int) -> None:
        """Create a model and `count` devices of it."""
        names = [f"p{number}" for number in range(props)]
        model = _object("DeviceModel", prefix, {
            "protocol": "mqtt",
            "properties": [{"name": n, "type": "INT", "accessMode": "ReadWrite"} for n in names],
        })  # fmt: skip
        self.call("POST", MODELS, model)
        for number in range(count):
            spec = {
                "deviceModelRef": {"name": prefix},
                "nodeName": "edge-1",
                "properties": [{"name": name} for name in names],
            }
            self.call("POST", DEVICES, _object("Device", f"{prefix}-{number}", spec))

    def settle(self, prefix: str, count: int, props: int, timeout_s: float = READY_S) -> None:
        """Wait until the node serves the last device: it answers a report."""
        self._answered(f"{prefix}-{count - 1}", timeout_s)
        self.quiet()

    def quiet(self) -> None:
        """Wait until nobody writes devices any more."""
        before = -1
        while (now := self.device_writes()) != before:
            before = now
            time.sleep(2.5)

    def device_writes(self) -> int:
        """Return how many writes of devices cloudcore has made."""
        return self._counted("armadillo_device_writes_total{")

    def mirror_writes(self) -> int:
        """Return how many writes of DeviceStatus objects cloudcore has made."""
        return self._counted("armadillo_device_status_object_writes_total ")

    def _counted(self, beginning: str) -> int:
        port = self._plan.ports["cloudcore-metrics"]
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=self._tls, timeout=30)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        counted = [line for line in lines if line.startswith(beginning)]
        return int(sum(float(line.rpartition(" ")[2]) for line in counted))

    def load(self, form: str, **options: Any) -> dict[str, Any]:
        """Run a publisher; return what it sent."""
        flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [
            sys.executable,
            str(HERE / "devices_load.py"),
            form,
            "--port",
            str(self._port),
            "--socket",
            str(self._layout.node("edge-1").dmi_socket),
            *flags,
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        sent: dict[str, Any] = json.loads(done.stdout)
        return sent

    def wait_newest(self, prefix: str, newest: dict[str, str], *, since_s: float) -> float:
        """Return the seconds from `since_s` until every newest value is in `Device.status`."""
        end_s = time.time() + READY_S
        names = sorted({key.partition("/")[0] for key in newest})
        while True:
            behind = [name for name in names if not self._shows(name, newest)]
            if not behind:
                return max(0.0, time.time() - since_s)
            if time.time() > end_s:
                raise TimeoutError(f"not the newest values: {behind[:5]}")
            names = behind
            time.sleep(0.05)

    def _shows(self, name: str, newest: dict[str, str]) -> bool:
        status = self.call("GET", f"{DEVICES}/{name}").get("status", {})
        held = {
            t["propertyName"]: t.get("reported", {}).get("value") for t in status.get("twins", ())
        }
        wanted = {k.partition("/")[2]: v for k, v in newest.items() if k.startswith(f"{name}/")}
        return all(held.get(prop) == value for prop, value in wanted.items())

    def desired_delays_ms(self, name: str, count: int) -> list[float]:
        """Return how long each of `count` patches took to be the device's MQTT message."""
        arrived: list[tuple[float, str]] = []
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)

        def heard(_client: Any, _context: Any, message: Any) -> None:
            arrived.append((time.perf_counter(), json.loads(message.payload)["delta"]["p0"]))

        client.on_message = heard
        client.connect("127.0.0.1", self._port)
        client.subscribe(f"$hw/events/device/default/{name}/twin/update/delta", 1)
        client.loop_start()
        time.sleep(0.5)
        delays_ms = []
        for number in range(1, count + 1):
            spec = {"properties": [{"name": "p0", "desired": {"value": str(number)}}]}
            begun_s = time.perf_counter()
            self.call("PATCH", f"{DEVICES}/{name}", {"spec": spec}, "application/merge-patch+json")
            while not arrived or arrived[-1][1] != str(number):
                if time.perf_counter() - begun_s > READY_S:
                    raise TimeoutError(f"the device was not told of {number}")
                time.sleep(0.0005)
            delays_ms.append((arrived[-1][0] - begun_s) * 1000)
            time.sleep(0.05)
        client.disconnect()
        client.loop_stop()
        return delays_ms

    def edge_rss_mib(self) -> float:
        """Return edgecore's resident memory."""
        return self.rss_mib("edgecore")

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watch]:
        """Watch edgecore's memory and CPU time until left."""
        before_mib, before_s, done = self.edge_rss_mib(), self._edge_cpu_s(), threading.Event()
        watch = Watch(before_mib, before_mib)

        def look() -> None:
            while not done.wait(0.1):
                watch.most_mib = max(watch.most_mib, self.edge_rss_mib())

        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(look)
            try:
                yield watch
            finally:
                done.set()
                looking.result()
                watch.cpu_s = self._edge_cpu_s() - before_s

    def _edge_cpu_s(self) -> float:
        stat = Path(f"/proc/{self._processes['edgecore'].pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self, program: str) -> float:
        """Return a program's resident memory."""
        return rss_bytes(self._processes[program].pid) / MIB

    def restart_edge(self, prefix: str, count: int) -> tuple[float, float]:
        """End the agent and start it; return the seconds until it serves all devices, and its memory then in MiB.

        Each device is asked for its twin and has answered: the first one again and again until the agent is there at
        all, then the others, all at once.
        """
        process = self._processes.pop("edgecore")
        process.terminate()
        process.wait(30)
        served: set[str] = set()
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        # In a queue of its own: ten thousand answers come faster than they are looked at.
        client.max_queued_messages_set(0)
        client.max_inflight_messages_set(0)
        client.on_message = lambda _c, _u, message: (
            None if b'"code"' in message.payload else served.add(message.topic.split("/")[4])
        )
        client.connect("127.0.0.1", self._port)
        client.subscribe("$hw/events/device/default/+/twin/get/result", 1)
        client.loop_start()
        begun_s = time.perf_counter()
        self._start("edgecore", self._layout.node("edge-1").settings)
        self._ask_until(client, served, [f"{prefix}-0"], again_s=0.05)
        self._ask_until(client, served, [f"{prefix}-{n}" for n in range(count)], again_s=5.0)
        took_s = time.perf_counter() - begun_s
        client.disconnect()
        client.loop_stop()
        return took_s, self.edge_rss_mib()

    def _ask_until(
        self, client: paho.Client, served: set[str], names: list[str], *, again_s: float
    ) -> None:
        """Ask devices for their twins until all have answered."""
        end_s = time.monotonic() + 2 * READY_S
        asked_s = 0.0
        while missing := [name for name in names if name not in served]:
            now_s = time.monotonic()
            if now_s > end_s:
                raise TimeoutError(f"{len(missing)} devices are not served: {missing[:5]}")
            if now_s - asked_s >= again_s:
                asked_s = now_s
                for name in missing:
                    client.publish(f"$hw/events/device/default/{name}/twin/get", b"{}", 1)
            time.sleep(0.02)

    def _answered(self, name: str, timeout_s: float) -> None:
        answers: list[bytes] = []
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.on_message = lambda _c, _u, message: answers.append(message.payload)
        client.connect("127.0.0.1", self._port)
        prefix = f"$hw/events/device/default/{name}"
        client.subscribe(f"{prefix}/twin/get/result", 1)
        client.loop_start()
        end_s = time.monotonic() + timeout_s
        while not any(b'"code"' not in answer for answer in answers):
            if time.monotonic() > end_s:
                raise TimeoutError(f"{name} is not served: {answers[-1:]}")
            client.publish(f"{prefix}/twin/get", b"{}", 1)
            time.sleep(0.1)
        client.disconnect()
        client.loop_stop()

    def _start_all(self) -> None:
        mosquitto = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/bin") or "mosquitto"
        config = self._folder / "mosquitto.conf"
        config.write_text(
            f"listener {self._port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            "max_queued_messages 0\nmax_inflight_messages 0\n"
        )
        self._run("mosquitto", [mosquitto, "-c", str(config)])
        settings = self._layout.node("edge-1").settings
        tree = yaml.safe_load(settings.read_text())
        tree["broker"] = {"url": f"mqtt://127.0.0.1:{self._port}"}
        settings.write_text(yaml.safe_dump(tree))
        self._start("kubecore", self._layout.kubecore / "kubecore.yaml")
        self._await_api()
        for obj in cluster_objects():
            self.call("POST", _collection(obj), obj)
        self._start("cloudcore", self._layout.cloudcore / "cloudcore.yaml")
        self._start("edgecore", settings)

    def _await_api(self) -> None:
        end_s = time.monotonic() + READY_S
        while True:
            try:
                self.call("GET", "/version")
                return
            except (OSError, RuntimeError) as exc:
                if time.monotonic() > end_s:
                    raise TimeoutError("kubecore did not become ready") from exc
                time.sleep(0.1)

    def _start(self, program: str, settings: Path) -> None:
        self._run(program, [sys.executable, "-m", program, "--config", str(settings)])

    def _run(self, name: str, command: list[str]) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log)


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    version = "devices.kubeedge.io/v1beta1"
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _collection(obj: dict[str, Any]) -> str:
    group = (
        f"/apis/{obj['apiVersion']}" if "/" in obj["apiVersion"] else f"/api/{obj['apiVersion']}"
    )
    words = re.sub(r"(?<!^)(?=[A-Z])", "", obj["kind"]).lower()
    return f"{group}/{words}s"
