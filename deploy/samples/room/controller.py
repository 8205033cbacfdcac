"""Rooms as devices: `kopf run deploy/samples/room/controller.py`. Every light of a Room is a Device that it owns."""

import kopf
import pykube

HERE = ("example.armadillo.dev", "v1", "rooms")


class Device(pykube.objects.NamespacedAPIObject):
    """A Device, as the API has it."""

    version, endpoint, kind = "devices.kubeedge.io/v1beta1", "devices", "Device"


def device(room: str, node: str, light: dict) -> dict:
    """Return the Device of one light."""
    visitors = {"protocolName": "virtual", "configData": {"signal": "memory"}}
    # Newest: a hand on the lamp is left as it is, and shows, until the Room says something new.
    brightness = {"name": "brightness", "conflict": "Newest"}
    brightness["desired"] = {"value": str(light["brightness"])}
    warmth = {"signal": "warmth", "of": "brightness", "offset": 21, "amplitude": 9}
    return {
        "apiVersion": Device.version,
        "kind": Device.kind,
        "metadata": {"name": f"{room}-{light['name']}", "labels": {"room": room}},
        "spec": {
            "deviceModelRef": {"name": "room-light"},
            "nodeName": node,
            "protocol": {"protocolName": "virtual"},
            "properties": [
                brightness | {"collectCycle": 200, "visitors": visitors},
                {"name": "warmth", "visitors": visitors | {"configData": warmth}},
            ],
        },
    }


@kopf.on.resume(*HERE)
@kopf.on.create(*HERE)
@kopf.on.update(*HERE)
def furnish(name, namespace, spec, patch, **_):
    """Have a Device for each light, as bright as the Room says, and none for a light that is gone."""
    api = pykube.HTTPClient(pykube.KubeConfig.from_env())
    wanted = [device(name, spec["nodeName"], light) for light in spec["lights"]]
    kopf.adopt(wanted)
    held = {d.name: d for d in Device.objects(api, namespace).filter(selector={"room": name})}
    for body in wanted:
        if (here := held.pop(body["metadata"]["name"], None)) is None:
            Device(api, body).create()
        else:
            here.patch({"spec": body["spec"]})
    for gone in held.values():
        gone.delete()
    patch.status["lights"] = str(len(wanted))


@kopf.on.event("devices.kubeedge.io", "v1beta1", "devices", labels={"room": kopf.PRESENT})
def notice(namespace, labels, **_):
    """Say in the Room which of its lights are not as they should be: a hand on the lamp, or no answer."""
    api = pykube.HTTPClient(pykube.KubeConfig.from_env())
    lights = Device.objects(api, namespace).filter(selector={"room": labels["room"]})
    off = [
        d.name
        for d in lights
        for t in d.obj.get("status", {}).get("twins", [])
        if t.get("phase") not in (None, "", "Applied")
    ]
    room = (
        pykube.object_factory(api, "/".join(HERE[:2]), "Room")
        .objects(api, namespace)
        .get_or_none(name=labels["room"])
    )
    if room is not None and room.obj.get("status", {}).get("drifted", "") != " ".join(off):
        room.patch({"status": {"drifted": " ".join(off)}}, subresource="status")
