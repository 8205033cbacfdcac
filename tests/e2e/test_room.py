"""The sample of a controller of one's own: a Room dims virtual lamps, with the link cut too, and sees a hand on one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.e2e.cluster import wait_until

pytestmark = pytest.mark.timeout(300)
SAMPLE = "deploy/samples/room"


@pytest.fixture(scope="module")
def room(up, kubectl):
    """The Room of the sample with its controller; the room's own file is what it says afterwards."""
    kubectl("apply", "-f", f"{SAMPLE}/crd.yaml")
    env = {**os.environ, "KUBECONFIG": str(up.state / "kubeconfig")}
    with (up.state / "logs" / "room.log").open("wb") as log:
        controller = subprocess.Popen(
            [sys.executable, "-m", "kopf", "run", "--namespace", "default", f"{SAMPLE}/controller.py"],
            env=env, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield kubectl
        finally:
            kubectl.run("delete", "room", "studio", "--ignore-not-found", "--wait=false")
            time.sleep(2)  # the controller takes its finalizer away, if it has one
            controller.terminate()
            controller.wait(20)


def brightness(kubectl, light):
    """Return the reported brightness of a light."""
    device = kubectl.get("device", f"studio-{light}") or {}
    twins = device.get("status", {}).get("twins", [])
    found = {t["propertyName"]: t for t in twins}
    return found.get("brightness", {}).get("reported", {}).get("value")


def dim(kubectl, **lights):
    document = yaml.safe_load(Path(SAMPLE, "room.yaml").read_text())
    for light in document["spec"]["lights"]:
        light["brightness"] = lights.get(light["name"], light["brightness"])
    kubectl.apply(document)


def test_applying_the_room_dims_its_lights_and_a_change_follows(room):
    room("apply", "-f", f"{SAMPLE}/room.yaml")
    wait_until("the lights as the room says", lambda: brightness(room, "window") == "30", 90)
    wait_until("the other one", lambda: brightness(room, "door") == "80", 60)
    dim(room, window=55)
    wait_until("the change", lambda: brightness(room, "window") == "55", 60)
    (line,) = room("get", "rooms", "--no-headers").splitlines()
    assert line.split()[:3] == ["studio", "north", "2"]


def test_a_hand_on_a_light_shows_as_drift_until_the_room_says_something_new(room):
    hand = {"spec": {"protocol": {"configData": {"hand": "brightness=5"}}}}
    room("patch", "device", "studio-window", "--type", "merge", "-p", json.dumps(hand))
    wait_until("the drift", lambda: drifted(room) == "studio-window", 60)
    assert brightness(room, "window") == "5"
    assert desired(room, "window") == "55"
    dim(room, window=56)
    wait_until("the room's word", lambda: brightness(room, "window") == "56", 60)
    wait_until("no drift", lambda: drifted(room) == "", 60)


def drifted(kubectl):
    return kubectl.get("room", "studio").get("status", {}).get("drifted", "")


def test_a_change_made_while_the_cloud_is_frozen_converges(room, up):
    with frozen(cloudcore_of(up)):
        dim(room, door=11)
        wait_until("the controller's change", lambda: desired(room, "door") == "11", 60)
        assert brightness(room, "door") == "80"
    wait_until("the change made meanwhile", lambda: brightness(room, "door") == "11", 90)


def desired(kubectl, light):
    properties = kubectl.get("device", f"studio-{light}")["spec"]["properties"]
    return next(p["desired"]["value"] for p in properties if p["name"] == "brightness")


def cloudcore_of(up):
    found = subprocess.run(["pgrep", "-f", f"cloudcore --config {up.state}"], capture_output=True)
    (pid,) = found.stdout.split()
    return int(pid)


@contextlib.contextmanager
def frozen(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
