"""DMI as KubeEdge has it on the wire, written from its facts: field numbers, and what a full manifest becomes."""

import json

import pytest
from google.protobuf.json_format import MessageToDict

from devicemodels.dmi import pack_device, pack_model, unpack_device, unpack_model
from devicemodels.objects import decode_device, decode_model
from devicemodels.pb import dmi_pb2 as pb
from tests.devicemodels.test_objects import DEVICE, MODEL

# Message -> its fields in the order of their numbers, from 1.
MESSAGES = {
    "MapperRegisterRequest": "withData mapper",
    "MapperRegisterResponse": "modelList deviceList",
    "MapperInfo": "name version api_version protocol address state",
    "DeviceModel": "name spec namespace",
    "DeviceModelSpec": "properties commands",
    "ModelProperty": "name description type accessMode minimum maximum unit",
    "DeviceCommand": "name url method status_code parameters response",
    "Device": "name spec status namespace",
    "DeviceSpec": "deviceModelReference protocol properties methods",
    "DeviceMethod": "name description propertyNames",
    "DeviceProperty": "name desired visitors reportCycle collectCycle reportToCloud pushMethod",
    "ProtocolConfig": "protocolName configData",
    "VisitorConfig": "protocolName configData",
    "CustomizedValue": "data",
    "PushMethod": "http mqtt dbMethod otel anomalyDetection",
    "PushMethodHTTP": "hostname port requestpath timeout",
    "PushMethodMQTT": "address topic qos retained",
    "PushMethodOTEL": "endpointURL",
    "AnomalyDetection": "data",
    "DBMethod": "influxdb2 redis tdengine mysql",
    "DBMethodInfluxdb2": "influxdb2ClientConfig influxdb2DataConfig",
    "Influxdb2ClientConfig": "url org bucket",
    "Influxdb2DataConfig": "measurement tag fieldKey",
    "RedisClientConfig": "addr db poolsize minIdleConns",
    "TDEngineClientConfig": "addr dbname",
    "MySQLClientConfig": "addr database userName",
    "DeviceStatus": "twins reportToCloud reportCycle",
    "Twin": "propertyName observedDesired reported",
    "TwinProperty": "value metadata",
    "ReportDeviceStatusRequest": "deviceName reportedDevice deviceNamespace",
    "ReportDeviceStatesRequest": "deviceName deviceNamespace state",
    "RegisterDeviceRequest": "device",
    "RegisterDeviceResponse": "deviceName deviceNamespace",
    "RemoveDeviceRequest": "deviceName deviceNamespace",
    "UpdateDeviceRequest": "device",
    "CreateDeviceModelRequest": "model",
    "CreateDeviceModelResponse": "deviceModelName deviceModelNamespace",
    "UpdateDeviceModelRequest": "model",
    "RemoveDeviceModelRequest": "modelName modelNamespace",
    "GetDeviceRequest": "deviceName deviceNamespace",
    "GetDeviceResponse": "device",
    "ReportDeviceStatusResponse": "",
    "ReportDeviceStatesResponse": "",
}
SERVICES = {
    "DeviceManagerService": {"MapperRegister", "ReportDeviceStatus", "ReportDeviceStates"},
    "DeviceMapperService": {
        "RegisterDevice", "RemoveDevice", "UpdateDevice", "CreateDeviceModel",
        "RemoveDeviceModel", "UpdateDeviceModel", "GetDevice",
    },
}  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES)
def test_fields_have_the_numbers_of_kubeedge(message):
    fields = pb.DESCRIPTOR.message_types_by_name[message].fields
    assert {f.number: f.name for f in fields} == dict(enumerate(MESSAGES[message].split(), 1))


def test_the_services_are_those_of_kubeedge():
    assert pb.DESCRIPTOR.package == "v1beta1"
    services = pb.DESCRIPTOR.services_by_name
    assert {name: set(s.methods_by_name) for name, s in services.items()} == SERVICES
    streams = [m for s in services.values() for m in s.methods if m.client_streaming]
    assert streams == []


def test_a_full_device_arrives_at_a_mapper_field_by_field():
    device = decode_device(json.dumps(DEVICE).encode())
    model = decode_model(json.dumps(MODEL).encode())
    wire = pack_device(device, model, {"p": "1"}).SerializeToString()
    found = MessageToDict(pb.Device.FromString(wire), preserving_proto_field_name=True)
    kind = "type.googleapis.com/google.protobuf."
    number = {"@type": f"{kind}FloatValue"}
    words = {"@type": f"{kind}StringValue"}
    assert found == {
        "name": "d",
        "namespace": "n",
        "spec": {
            "deviceModelReference": "m",
            "protocol": {
                "protocolName": "modbus",
                "configData": {
                    "data": {
                        "ip": words | {"value": "10.0.0.1"},
                        "port": number | {"value": 502.0},
                        "baud": number | {"value": 9600.0},
                    }
                },
            },
            "properties": [
                {
                    "name": "p",
                    "desired": {"value": "1", "metadata": {"type": "int"}},
                    "visitors": {
                        "protocolName": "modbus",
                        "configData": {
                            "data": {
                                "register": number | {"value": 1.0},
                                "nested": words | {"value": '{"x":[1.5]}'},
                            }
                        },
                    },
                    "reportCycle": "1000",
                    "collectCycle": "500",
                    "reportToCloud": True,
                    "pushMethod": {
                        "http": {"hostname": "h", "port": "80", "requestpath": "/p", "timeout": "5"},
                        "mqtt": {"address": "tcp://a:1883", "topic": "t", "qos": 1, "retained": True},
                        "otel": {"endpointURL": "http://o"},
                        "dbMethod": {
                            "influxdb2": {
                                "influxdb2ClientConfig": {"url": "u", "org": "o", "bucket": "b"},
                                "influxdb2DataConfig": {
                                    "measurement": "m", "tag": {"a": "b"}, "fieldKey": "f",
                                },
                            },
                            "redis": {
                                "redisClientConfig": {
                                    "addr": "a", "db": 1, "poolsize": 2, "minIdleConns": 3,
                                }
                            },
                            "tdengine": {"tdEngineClientConfig": {"addr": "a", "dbname": "d"}},
                            "mysql": {
                                "mysqlClientConfig": {"addr": "a", "database": "d", "userName": "u"}
                            },
                        },
                        "anomalyDetection": {
                            "data": {"anything": words | {"value": '{"at":["all"]}'}}
                        },
                    },
                }
            ],
            "methods": [{"name": "set", "description": "x", "propertyNames": ["p"]}],
        },
        "status": {"reportToCloud": True, "reportCycle": "10"},
    }  # fmt: skip


def test_a_full_model_arrives_at_a_mapper_field_by_field():
    model = decode_model(json.dumps(MODEL).encode())
    found = pb.DeviceModel.FromString(pack_model(model).SerializeToString())
    assert MessageToDict(found, preserving_proto_field_name=True) == {
        "name": "m",
        "namespace": "n",
        "spec": {
            "properties": [
                {
                    key: MODEL["spec"]["properties"][0][key]
                    for key in (
                        "name", "description", "type", "accessMode", "minimum", "maximum", "unit",
                    )
                }
            ]
        },
    }  # fmt: skip
    assert unpack_model(found)["p"].maximum == "9"


def test_what_is_not_asked_now_is_not_set():
    device = decode_device(json.dumps(DEVICE).encode())
    packed = pack_device(device, decode_model(json.dumps(MODEL).encode()), {})
    assert not packed.spec.properties[0].HasField("desired")
    assert unpack_device(packed).properties[0].desired is None


def test_configuration_of_no_known_type_is_refused_by_its_key():
    device = pb.Device(name="d", namespace="n")
    device.spec.protocol.configData.data["odd"].Pack(pb.Twin())
    with pytest.raises(ValueError, match=r"configData\.odd: .*Twin is no known type"):
        unpack_device(device)
