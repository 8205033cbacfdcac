"""Which devices and device models this node holds, and which device can be served with which model."""

from __future__ import annotations

from dataclasses import dataclass, field

from devicemodels.objects import (
    Device,
    DeviceModel,
    ObjectDecodeError,
    decode_device,
    decode_model,
)
from edgecore.eventbus.payloads import NOT_FOUND, Member, PayloadError
from edgecore.records import StoredObject
from synccore.messages import ObjectKey

KINDS = ("Device", "DeviceModel")


@dataclass
class Roster:
    """Decoded objects by `namespace/name`; one that does not decode is kept as its reason."""

    node: str
    devices: dict[str, Device] = field(default_factory=dict)
    models: dict[str, DeviceModel] = field(default_factory=dict)
    broken: dict[ObjectKey, str] = field(default_factory=dict)

    def put(self, stored: StoredObject) -> set[str]:
        """Add or replace an object; return the ids of the devices that this touches."""
        touched = self._touched(stored.key)
        self.broken.pop(stored.key, None)
        try:
            if stored.key.kind == "Device":
                self.devices[_id(stored.key)] = decode_device(stored.body)
            else:
                self.models[_id(stored.key)] = decode_model(stored.body)
        except ObjectDecodeError as exc:
            # The last good one stays in force: a device does not stop because somebody mistyped.
            self.broken[stored.key] = str(exc)
        return touched | self._touched(stored.key)

    def drop(self, key: ObjectKey) -> set[str]:
        """Forget an object; return the ids of the devices that this touches."""
        touched = self._touched(key)
        self.broken.pop(key, None)
        (self.devices if key.kind == "Device" else self.models).pop(_id(key), None)
        return touched

    def model_of(self, device: Device) -> DeviceModel | None:
        """Return the model that the device names, if it is here."""
        return self.models.get(f"{device.metadata.namespace}/{device.model_name}")

    def served(self, device_id: str) -> tuple[Device, DeviceModel]:
        """Return a device with its model. Raises: PayloadError: 404, saying what is missing."""
        device = self.device(device_id)
        model = self.model_of(device)
        if model is None:
            key = ObjectKey("DeviceModel", device.metadata.namespace, device.model_name)
            named = f"device model {device.metadata.namespace}/{device.model_name}"
            waits = self.broken.get(key, "is not on this node yet")
            reason = (
                f"device {device_id}: {named}: {waits}"
                if device.model_name
                else (f"device {device_id}: spec.deviceModelRef.name is empty")
            )
            raise PayloadError(NOT_FOUND, reason)
        return device, model

    def device(self, device_id: str) -> Device:
        """Return a device. Raises: PayloadError: 404."""
        device = self.devices.get(device_id)
        if device is None:
            namespace, _, name = device_id.partition("/")
            fault = self.broken.get(ObjectKey("Device", namespace, name))
            why = fault or f"is not a device of node {self.node}"
            raise PayloadError(NOT_FOUND, f"device {device_id[:512]}: {why}")
        return device

    def member(self, device_id: str, state: str, last_online: str) -> Member:
        """Return a device as membership messages list it."""
        device = self.devices[device_id]
        description = device.metadata.labels.get("description", "")
        return Member(device_id, device.metadata.name, description, state, last_online)

    def _touched(self, key: ObjectKey) -> set[str]:
        if key.kind == "Device":
            return {_id(key)}
        return {
            device_id
            for device_id, device in self.devices.items()
            if device.model_name == key.name and device.metadata.namespace == key.namespace
        }


def _id(key: ObjectKey) -> str:
    return f"{key.namespace}/{key.name}"
