from __future__ import annotations

import asyncio
import json

from cloudcore.edgecontroller import controller
from synccore.index import record_version
from synccore.messages import Delta, ObjectKey, Op
from tests.cloudcore.edgecontroller.conftest import running_cloud
from tests.fakes.kubeapi import Fault, until


def named(name, **rest):
    return {"metadata": {"name": name, "namespace": "default"}, **rest}


def pod(name, node, *config_maps, secrets=()):
    sources = [{"configMapRef": {"name": n}} for n in config_maps]
    sources += [{"secretRef": {"name": n}} for n in secrets]
    spec = {"nodeName": node, "containers": [{"name": "c", "envFrom": sources}]}
    return named(name, spec={k: v for k, v in spec.items() if v is not None})


def key(kind, name):
    return ObjectKey(kind, "default", name)


class Session:
    """What the hub does: a view, and the set of keys it was told of."""

    def __init__(self, cloud, node="edge-1"):
        self.changed, self.told, self.given_up = set(), [], 0
        self.view = cloud.controller.open(node, self._change, self._give_up)

    def _change(self, key):
        self.changed.add(key)
        self.told.append(key)

    def _give_up(self):
        self.given_up += 1

    def keys(self):
        return {str(k).replace("default/", "") for k in list(self.view.index.keys())}

    async def holds(self, *names):
        await until(lambda: self.keys() == set(names))

    def body(self, kind, name):
        delta = self.view.read(key(kind, name))
        assert delta.version == record_version(delta.uid, delta.body)
        assert delta.version == self.view.index.version(delta.key)
        return json.loads(delta.body)


async def test_a_node_holds_its_pods_and_what_they_refer_to_and_nothing_else(api, cloud):
    api.put("configmaps", named("env", data={"A": "1"}))
    api.put("configmaps", named("other", data={}))
    api.put("secrets", named("token", data={"t": "eA=="}))
    api.put("pods", pod("web", "edge-1", "env", secrets=["token"]))
    api.put("pods", pod("db", "edge-2", "other"))
    api.put("pods", pod("pending", None))
    session = Session(cloud)
    await session.holds("Pod web", "ConfigMap env", "Secret token")
    assert session.body("ConfigMap", "env")["data"] == {"A": "1"}
    assert session.view.read(key("Pod", "db")) is None
    assert session.view.read(key("ConfigMap", "other")) is None


async def test_bodies_carry_no_status_and_a_status_write_is_no_change(api, cloud):
    api.put("pods", pod("web", "edge-1") | {"status": {"phase": "Pending"}})
    session = Session(cloud)
    await session.holds("Pod web")
    assert "status" not in session.body("Pod", "web")
    session.changed.clear()
    api.put("pods", pod("web", "edge-1") | {"status": {"phase": "Running"}})
    api.put("pods", pod("marker", "edge-1"))
    await session.holds("Pod web", "Pod marker")
    assert session.changed == {key("Pod", "marker")}


async def test_a_changed_config_map_is_sent_to_every_node_that_needs_it(api, cloud):
    api.put("configmaps", named("env", data={"A": "1"}))
    for node in ("edge-1", "edge-2"):
        api.put("pods", pod(f"on-{node}", node, "env"))
    sessions = [Session(cloud, n) for n in ("edge-1", "edge-2")]
    for session, node in zip(sessions, ("edge-1", "edge-2"), strict=True):
        await session.holds(f"Pod on-{node}", "ConfigMap env")
        session.changed.clear()
    api.put("configmaps", named("env", data={"A": "2"}))
    for session in sessions:
        await until(lambda s=session: key("ConfigMap", "env") in s.changed)
        assert session.body("ConfigMap", "env")["data"] == {"A": "2"}
    bodies = {id(s.view.read(key("ConfigMap", "env")).body) for s in sessions}
    assert len(bodies) == 1


async def test_what_appears_after_the_pod_that_needs_it_arrives_too(api, cloud):
    api.put("pods", pod("web", "edge-1", "late"))
    session = Session(cloud)
    await session.holds("Pod web")
    api.put("configmaps", named("late", data={}))
    await session.holds("Pod web", "ConfigMap late")
    api.remove("configmaps", "default", "late")
    await session.holds("Pod web")


async def test_a_config_map_leaves_with_the_last_pod_that_needs_it(api, cloud):
    api.put("configmaps", named("env", data={}))
    api.put("pods", pod("a", "edge-1", "env"))
    api.put("pods", pod("b", "edge-1", "env"))
    session = Session(cloud)
    await session.holds("Pod a", "Pod b", "ConfigMap env")
    api.remove("pods", "default", "a")
    await session.holds("Pod b", "ConfigMap env")
    api.remove("pods", "default", "b")
    await session.holds()
    assert session.view.read(key("ConfigMap", "env")) is None
    assert key("ConfigMap", "env") not in cloud.controller._records


async def test_a_pod_asked_to_go_is_an_upsert_that_says_so(api, cloud):
    api.put("pods", pod("web", "edge-1"))
    session = Session(cloud)
    await session.holds("Pod web")
    going = pod("web", "edge-1")
    going["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    going["metadata"] |= {"deletionGracePeriodSeconds": 30}
    api.put("pods", going)
    await until(lambda: "deletionTimestamp" in session.body("Pod", "web")["metadata"])
    api.remove("pods", "default", "web")
    await session.holds()


async def test_a_finished_pod_stays_with_its_node_until_deleted(api, cloud):
    api.put("pods", pod("job", "edge-1") | {"status": {"phase": "Succeeded"}})
    session = Session(cloud)
    await session.holds("Pod job")


async def test_a_pod_made_anew_under_its_name_is_another_version(api, cloud):
    first = api.put("pods", pod("web", "edge-1"))
    session = Session(cloud)
    await session.holds("Pod web")
    before = session.view.index.version(key("Pod", "web"))
    api.remove("pods", "default", "web")
    second = api.put("pods", pod("web", "edge-1"))
    await until(lambda: session.view.index.version(key("Pod", "web")) not in (None, before))
    assert session.view.read(key("Pod", "web")).uid == second["metadata"]["uid"]
    assert first["metadata"]["uid"] != second["metadata"]["uid"]


async def test_devices_bring_their_models_and_move_with_their_node_name(api, cloud):
    model = {"deviceModelRef": {"name": "bulb"}}
    api.put("devicemodels", named("bulb", spec={}))
    api.put("devicemodels", named("unused", spec={}))
    api.put("devices", named("lamp", spec={"nodeName": "edge-1", **model}))
    here, there = Session(cloud), Session(cloud, "edge-2")
    await here.holds("Device lamp", "DeviceModel bulb")
    api.put("devices", named("lamp", spec={"nodeName": "edge-2", **model}))
    await there.holds("Device lamp", "DeviceModel bulb")
    await here.holds()


async def test_a_device_with_odd_types_stays_away_and_harms_nothing(api, cloud, caplog):
    api.put("devices", named("broken", spec={"nodeName": ["edge-1"]}))
    api.put("devices", named("lamp", spec={"nodeName": "edge-1"}))
    session = Session(cloud)
    await session.holds("Device lamp")
    assert "Device default/broken: kept from its node" in caplog.text


async def test_a_closed_view_is_told_nothing_more(api, cloud):
    first, second = Session(cloud), Session(cloud)
    first.view.close()
    first.view.close()
    api.put("pods", pod("web", "edge-1"))
    await second.holds("Pod web")
    assert (first.changed, first.keys()) == (set(), set())


async def test_synced_waits_until_every_needed_body_is_there(api):
    for number in range(20):
        api.put("configmaps", named(f"env-{number}", data={}))
        api.put("pods", pod(f"web-{number}", "edge-1", f"env-{number}"))
    api.faults += [Fault("get", 500)] * 15
    async with running_cloud(api) as cloud:
        assert not cloud.controller.synced
        await until(lambda: cloud.controller.synced)
        assert len(Session(cloud).keys()) == 40


async def test_a_restarted_cloud_computes_the_same_digest(api):
    api.put("configmaps", named("env", data={"A": "1"}))
    api.put("pods", pod("web", "edge-1", "env") | {"kind": "Pod", "apiVersion": "v1"})
    digests = []
    for _ in range(2):
        async with running_cloud(api) as cloud:
            await until(lambda c=cloud: c.controller.synced)
            digests.append(Session(cloud).view.index.digest())
    async with running_cloud(api) as cloud:  # this one learns of the pod from a watch
        api.remove("pods", "default", "web")
        await until(lambda: cloud.controller.synced)
        session = Session(cloud)
        again = pod("web", "edge-1", "env") | {"kind": "Pod", "apiVersion": "v1"}
        made = api.put("pods", again)
        await session.holds("Pod web", "ConfigMap env")
        watched = session.view.index.digest()
    async with running_cloud(api) as cloud:
        await until(lambda: cloud.controller.synced)
        listed = Session(cloud).view.index.digest()
    assert made["metadata"]["uid"]
    assert digests[0] == digests[1]
    assert watched == listed


async def test_secrets_of_nodes_without_our_agent_are_never_read(api, cloud):
    api.put("secrets", named("token", data={}))
    api.put("pods", pod("web", "cloud-1", secrets=["token"]))
    api.put("pods", pod("edge", "edge-1"))
    await Session(cloud).holds("Pod edge")
    await asyncio.sleep(0.05)
    assert api.sent("get", "namespaces/default/secrets") == []
    assert not cloud.controller.ready("cloud-1")  # it became one of ours: first its secrets
    await until(lambda: cloud.controller.ready("cloud-1"))
    session = Session(cloud, "cloud-1")
    assert session.keys() == {"Pod web", "Secret token"}


async def test_a_new_pod_comes_after_the_config_map_that_exists(api, cloud):
    api.put("pods", pod("first", "edge-1"))
    session = Session(cloud)
    await session.holds("Pod first")
    for number in range(10):
        api.put("configmaps", named(f"env-{number}", data={"n": number}))
        api.put("pods", pod(f"web-{number}", "edge-1", f"env-{number}"))
    await until(lambda: len(session.keys()) == 21)
    told = [str(key) for key in session.told]
    for number in range(10):
        assert told.index(f"ConfigMap default/env-{number}") < told.index(
            f"Pod default/web-{number}"
        )


async def test_a_pod_does_not_wait_for_a_config_map_that_does_not_exist(api, cloud):
    session = Session(cloud)
    api.put("pods", pod("web", "edge-1", "nowhere"))
    await session.holds("Pod web")


async def test_a_pod_goes_without_a_secret_that_cannot_be_read(api, cloud, monkeypatch):
    monkeypatch.setattr(controller, "HOLD_LIMIT_S", 0.2)
    session = Session(cloud)
    api.put("secrets", named("token", data={}))
    api.faults += [Fault("get", 403, plural="secrets")] * 1000
    api.put("pods", pod("web", "edge-1", secrets=["token"]))
    await session.holds("Pod web")


async def test_a_node_the_cluster_gave_up_is_told_once_whenever_that_happens(api, cloud):
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "edge-1"}}
    lost = {**node, "spec": {"taints": [{"key": "node.kubernetes.io/unreachable"}]}}
    api.put("pods", pod("web", "edge-1"))
    session = Session(cloud)
    await session.holds("Pod web")
    assert session.given_up == 0
    api.put("nodes", lost)
    await until(lambda: session.given_up == 1)
    late = Session(cloud)
    assert late.given_up == 1
    api.put("nodes", node)
    await until(lambda: session.given_up == 2)  # what the cluster wrote meanwhile is still there
    api.put("nodes", lost)
    await until(lambda: session.given_up == 3)


async def test_a_node_that_called_itself_not_ready_is_asked_once_it_is_ready_again(api, cloud):
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "edge-1"}}
    not_ready = {**node, "spec": {"taints": [{"key": "node.kubernetes.io/not-ready"}]}}
    api.put("nodes", node)
    api.put("pods", pod("web", "edge-1"))
    session = Session(cloud)
    await session.holds("Pod web")
    key = ObjectKey("Node", "", "edge-1")
    for number in range(1, 3):
        api.put("nodes", not_ready)
        await until(lambda: b"not-ready" in cloud.controller._nodes.get(key).body)
        assert session.given_up == number - 1  # it said so itself, so it knows
        assert Session(cloud).given_up == 0
        api.put("nodes", node)
        await until(lambda number=number: session.given_up == number)


async def test_a_node_whose_pods_status_somebody_else_wrote_over_is_asked_and_not_in_a_storm(
    api, cloud
):
    api.put("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "edge-1"}})
    made = api.put("pods", pod("web", "edge-1"))
    session = Session(cloud)
    await session.holds("Pod web")
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    uid = made["metadata"]["uid"]
    delta = Delta(Op.UPSERT, made_key(made), uid, 1, body=json.dumps({"status": status}).encode())
    for wanted in (1, 1):  # the second time within RESTORE_S is put off
        await cloud.reports.write("edge-1", delta)
        written = api.get("pods", "default", "web")
        await until(lambda w=written: shown(cloud, made) == w["metadata"]["resourceVersion"])
        assert session.given_up <= 1
        written["status"]["conditions"][0]["status"] = "False"
        changed = api.put("pods", written)
        await until(lambda c=changed: shown(cloud, made) == c["metadata"]["resourceVersion"])
        assert session.given_up == wanted
    assert cloud.controller._restoring == {"edge-1": True}


def made_key(made):
    return ObjectKey("Pod", made["metadata"]["namespace"], made["metadata"]["name"])


def shown(cloud, made):
    return cloud.controller._pods.get(made_key(made)).resource_version


async def test_a_node_that_falls_silent_while_it_is_not_ready_is_asked_at_once(api, cloud):
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "edge-1"}}
    tainted = [
        {**node, "spec": {"taints": [{"key": f"node.kubernetes.io/{word}"} for word in words]}}
        for words in (("not-ready",), ("not-ready", "unreachable"), ("not-ready",), ())
    ]
    asked = []
    api.put("nodes", node)
    api.put("pods", pod("web", "edge-1"))
    session = Session(cloud)
    await session.holds("Pod web")
    for state in tainted:
        api.put("nodes", state)
        body = [taint["key"].encode() for taint in state["spec"]["taints"]]
        key = ObjectKey("Node", "", "edge-1")

        def seen(body=body, key=key):
            held = cloud.controller._nodes.get(key).body
            return held.count(b"node.kubernetes.io/") == len(body)

        await until(seen)
        asked.append(session.given_up)
    assert asked == [0, 1, 1, 2]


async def test_a_node_that_was_deleted_by_hand_is_told_now_or_when_it_comes(api, cloud):
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "edge-1"}}
    api.put("nodes", node)
    await until(lambda: Session(cloud).given_up == 0)
    session = Session(cloud)
    assert session.given_up == 0
    api.remove("nodes", "", "edge-1")
    await until(lambda: session.given_up == 1)
    assert Session(cloud).given_up == 1


async def test_a_change_during_a_fetch_is_fetched_again(api, cloud):
    api.put("configmaps", named("env", data={"n": 0}))
    api.put("pods", pod("web", "edge-1", "env"))
    session = Session(cloud)
    for number in range(1, 30):
        api.put("configmaps", named("env", data={"n": number}))
        await asyncio.sleep(0.001)
    await session.holds("Pod web", "ConfigMap env")
    await until(lambda: session.body("ConfigMap", "env")["data"] == {"n": 29})


def service(name, address="10.96.0.7", namespace="default"):
    spec = {"clusterIP": address, "ports": [{"port": 80}]}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


async def test_a_node_holds_the_addressed_services_of_its_pods_namespaces(api, cloud):
    api.put("services", service("kubernetes", "10.96.0.1"))
    api.put("services", service("db"))
    api.put("services", service("headless", "None"))
    api.put("services", service("elsewhere", namespace="other"))
    api.put("pods", pod("web", "edge-1"))
    session, other = Session(cloud), Session(cloud, "edge-2")
    await session.holds("Pod web", "Service db", "Service kubernetes")
    assert session.body("Service", "db")["spec"]["clusterIP"] == "10.96.0.7"
    api.put("services", service("late"))
    await session.holds("Pod web", "Service db", "Service kubernetes", "Service late")
    api.put("services", service("late", "None"))
    api.remove("services", "default", "db")
    await session.holds("Pod web", "Service kubernetes")
    api.remove("pods", "default", "web")
    await session.holds()
    assert other.keys() == set()


async def test_services_are_told_before_the_pod_that_is_told_of_them(api, cloud):
    api.put("services", service("db"))
    await until(lambda: cloud.controller._services.get(key("Service", "db")))
    session = Session(cloud)
    api.put("pods", pod("web", "edge-1"))
    await session.holds("Pod web", "Service db")
    assert session.told.index(key("Service", "db")) < session.told.index(key("Pod", "web"))


async def test_a_runtime_class_comes_with_the_pod_that_asks_for_it(api, cloud):
    api.put("runtimeclasses", {"metadata": {"name": "gvisor"}, "handler": "runsc"})
    made = pod("web", "edge-1")
    made["spec"]["runtimeClassName"] = "gvisor"
    api.put("pods", made)
    session = Session(cloud)
    await session.holds("Pod web", "RuntimeClass gvisor")
    delta = session.view.read(ObjectKey("RuntimeClass", "", "gvisor"))
    assert json.loads(delta.body)["handler"] == "runsc"


async def test_a_node_that_was_told_of_more_waits_until_it_is_known_here(api, cloud):
    made = api.put("pods", pod("web", "edge-1"))
    version = int(made["metadata"]["resourceVersion"])
    await until(lambda: cloud.controller.horizon() == version)
    assert cloud.controller.ready("edge-1", version)
    assert not cloud.controller.ready("edge-1", version + 1)
    api.put("pods", pod("web-2", "edge-2"))  # the next change, of whatever it is
    await until(lambda: cloud.controller.ready("edge-1", version + 1))


async def test_a_node_does_not_wait_for_ever_for_a_history_that_is_gone(api, cloud, monkeypatch):
    monkeypatch.setattr(controller, "HOLD_LIMIT_S", 0.2)
    assert not cloud.controller.ready("edge-1", 1 << 60)
    await until(lambda: cloud.controller.ready("edge-1", 1 << 60))


async def test_a_body_that_a_restored_server_has_under_a_version_of_before_is_fetched(api, cloud):
    api.put("configmaps", named("env", data={"A": "1"}))
    api.put("pods", pod("web", "edge-1", "env"))
    session = Session(cloud)
    await session.holds("Pod web", "ConfigMap env")
    backup = api.version - 2  # before both
    kept = api.get("configmaps", "default", "env")["metadata"]
    for _ in range(10):
        api.put("pods", pod("other", "edge-2"))
    # Restored from a backup: what is written next has the version of what we know.
    api.version = backup
    api.compact()
    again = named("env", data={"A": "2"})
    again["metadata"]["uid"] = kept["uid"]
    assert api.put("configmaps", again)["metadata"]["resourceVersion"] == kept["resourceVersion"]
    api.drop_connections()
    await until(lambda: session.body("ConfigMap", "env")["data"] == {"A": "2"})
