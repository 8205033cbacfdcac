"""`kubectl edge twin` and `kubectl edge device` against a running lamp: values, outcomes, exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from corekit.timestamps import parse_rfc3339
from tests.e2e.cluster import wait_until
from tests.e2e.conftest import broker_of


@pytest.fixture
def edge(up):
    """Run `kubectl edge …`; return what it printed and its exit status."""
    env = {**os.environ, "KUBECONFIG": str(up.state / "kubeconfig")}

    def run(*args):
        command = [sys.executable, "-m", "armadillo.kubectl_edge", *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
        return done.returncode, done.stdout, done.stderr

    return run


def test_set_waits_until_the_lamp_has_taken_the_value(edge, kubectl):
    assert edge("twin", "set", "lamp-01", "brightness=63") == (
        0,
        "lamp-01: brightness: Applied 63\n",
        "",
    )
    assert kubectl.reported("lamp-01", "brightness") == "63"
    status, table, _ = edge("twin", "get", "lamp-01", "brightness")
    assert (status, table.splitlines()[1].split()[:3]) == (0, ["brightness", "63", "63"])


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            "brightness=101",
            "device default/lamp-01: property 'brightness': value '101' is more than the maximum of 100 %",
        ),
        ("temperature=4", "is ReadOnly in its model"),
        ("colour=red", "'colour' is not a property of model lamp"),
        ("brightness", "is not PROPERTY=VALUE"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_written(edge, wanted, said):
    status, _, error = edge("twin", "set", "lamp-01", wanted)
    assert (status, error.count("\n")) == (2, 1)
    assert said in error


def test_a_write_that_kubectl_makes_and_the_model_forbids_shows_in_describe(edge, kubectl):
    patch = '[{"op":"replace","path":"/spec/properties/1/desired/value","value":"400"}]'
    kubectl("patch", "device", "lamp-01", "--type", "json", "-p", patch)
    wait_until("the reason", lambda: "InvalidValue" in kubectl("describe", "device", "lamp-01"))
    _, table, _ = edge("device", "ls")
    assert table.splitlines()[1].split()[-1] == "brightness"
    assert edge("twin", "set", "lamp-01", "brightness=40")[0] == 0


def test_a_device_that_is_not_there_does_not_answer_in_time(edge, kubectl):
    ghost = {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": "ghost"},
        "spec": {"deviceModelRef": {"name": "lamp"}, "nodeName": "edge-1"},
    }
    kubectl.apply(ghost)
    try:
        status, _, error = edge("twin", "set", "ghost", "power=true", "--timeout", "2s")
        assert (status, error) == (3, "ghost: power: Pending after 2s\n")
    finally:
        kubectl.delete("device", "ghost")


def test_a_device_that_does_not_exist_is_said_by_kubectl(edge):
    status, _, error = edge("twin", "get", "nobody")
    assert (status, "not found" in error) == (1, True)


def test_watch_prints_every_value_live(up, edge, kubectl):
    env = {**os.environ, "KUBECONFIG": str(up.state / "kubeconfig")}
    command = [sys.executable, "-m", "armadillo.kubectl_edge", "twin", "watch", "lamp-01"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as watching:
        try:
            line = watching.stdout.readline()  # the lamp measures every three seconds
        finally:
            watching.terminate()
    assert line.split()[1:3] == ["default/lamp-01", "temperature"]


def test_last_seen_is_what_the_stream_has_seen_and_not_what_the_status_says(edge, kubectl):
    """The lamp speaks every three seconds; its status learns of that once a minute."""

    def status_age_s():
        said = kubectl.get("device", "lamp-01")["status"]["lastOnlineTime"]
        return time.time() - parse_rfc3339(said)

    wait_until("a status that lags", lambda: status_age_s() > 20, 90)

    def shown_s():
        line = next(row for row in edge("device", "ls")[1].splitlines() if "lamp-01" in row)
        return int(line.split()[4].removesuffix("s"))

    assert wait_until("a lamp that was seen lately", lambda: shown_s() + 5 < status_age_s())


def test_messages_of_a_free_topic_are_printed_as_they_come(up):
    env = {**os.environ, "KUBECONFIG": str(up.state / "kubeconfig")}
    host, _, port = broker_of(up).partition(":")
    command = [sys.executable, "-m", "armadillo.kubectl_edge", "messages", "edge-1", "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as listening:
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.connect(host, int(port))
        client.loop_start()
        stop = threading.Event()

        def say():
            while not stop.wait(0.2):  # until somebody listens
                client.publish("app/user/alarm", "door open", qos=1)

        talking = threading.Thread(target=say)
        talking.start()
        try:
            message = json.loads(listening.stdout.readline())
        finally:
            stop.set()
            talking.join()
            client.disconnect()
            client.loop_stop()
            listening.terminate()
    assert (message["node"], message["topic"], message["payload"]) == (
        "edge-1",
        "app/user/alarm",
        "door open",
    )


def test_history_says_what_was_kept(edge, kubectl):
    status, _, error = edge("twin", "history", "lamp-01", "power")
    assert (status, "is `history.keepSeconds` set?" in error) == (0, True)
    patch = '[{"op":"add","path":"/spec/properties/2/history","value":{"keepSeconds":600}}]'
    kubectl("patch", "device", "lamp-01", "--type", "json", "-p", patch)

    def kept():
        return edge("twin", "history", "lamp-01", "temperature", "--output", "json")[1]

    assert '"property": "temperature"' in wait_until("a value is kept", kept, 40)
