"""Objects: every field of the KubeEdge v1beta1 schema is read and written back unchanged."""

import json

import msgspec
import pytest

from devicemodels.manifests import crd_documents, sample_documents
from devicemodels.objects import ObjectDecodeError, decode_device, decode_model
from devicemodels.rules import check_device, check_model

PUSH = {
    "http": {"hostName": "h", "port": 80, "requestPath": "/p", "timeout": 5},
    "mqtt": {"address": "tcp://a:1883", "topic": "t", "qos": 1, "retained": True},
    "otel": {"endpointURL": "http://o"},
    "dbMethod": {
        "influxdb2": {
            "influxdb2ClientConfig": {"url": "u", "org": "o", "bucket": "b"},
            "influxdb2DataConfig": {"measurement": "m", "tag": {"a": "b"}, "fieldKey": "f"},
        },
        "redis": {"redisClientConfig": {"addr": "a", "db": 1, "poolsize": 2, "minIdleConns": 3}},
        "TDEngine": {"TDEngineClientConfig": {"addr": "a", "dbName": "d"}},
        "mysql": {"mysqlClientConfig": {"addr": "a", "database": "d", "userName": "u"}},
    },
    "anomalyDetection": {"anything": {"at": ["all"]}},
}
VISITORS = {"protocolName": "modbus", "configData": {"register": 1, "nested": {"x": [1.5]}}}
REPORTING = {"onChange": True, "deadBand": "0.5", "minIntervalMilliseconds": 100}
DEVICE = {
    "apiVersion": "devices.kubeedge.io/v1beta1",
    "kind": "Device",
    "metadata": {"name": "d", "namespace": "n", "uid": "u", "generation": 3},
    "spec": {
        "deviceModelRef": {"name": "m"},
        "nodeName": "edge",
        "properties": [
            {
                "name": "p",
                "desired": {"value": "1", "metadata": {"type": "int"}},
                "visitors": VISITORS,
                "reportCycle": 1000,
                "collectCycle": 500,
                "reportToCloud": True,
                "pushMethod": PUSH,
                "reporting": REPORTING,
                "history": {"keepSeconds": 60},
                "conflict": "Newest",
                "writeTimeoutSeconds": 5,
            }
        ],
        "protocol": {"protocolName": "modbus", "configData": {"ip": "10.0.0.1", "port": 502}},
        "methods": [{"name": "set", "description": "x", "propertyNames": ["p"]}],
        "stateReport": {"reportToCloud": True, "reportCycle": 10},
        "presence": {"offlineAfterSeconds": 90},
    },
    "status": {"reportToCloud": True, "reportCycle": 7},
}
MODEL = {
    "apiVersion": "devices.kubeedge.io/v1beta1",
    "kind": "DeviceModel",
    "metadata": {"name": "m", "namespace": "n"},
    "spec": {
        "properties": [
            {
                "name": "p",
                "description": "x",
                "type": "INT",
                "accessMode": "ReadOnly",
                "minimum": "0",
                "maximum": "9",
                "unit": "V",
                "visitors": VISITORS,
                "reporting": REPORTING,
                "history": {"keepSeconds": 60},
            }
        ],
        "protocol": "modbus",
        "protocolConfigData": {"baud": 9600},
    },
}


@pytest.mark.parametrize(("decode", "document"), [(decode_device, DEVICE), (decode_model, MODEL)])
def test_every_field_survives_the_round_trip(decode, document):
    decoded = decode(json.dumps(document).encode())
    encoded = json.loads(msgspec.json.encode(decoded))
    assert {"apiVersion": document["apiVersion"], "kind": document["kind"]} | encoded == document


@pytest.mark.parametrize("index", [0, 1])
def test_the_schema_has_every_field(index):
    """The CRD's schema names each field of the full manifests, so that none is pruned."""
    crd = crd_documents()[index]
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert_covers(schema, [MODEL, DEVICE][index]["spec"], "spec")


def assert_covers(schema, value, path):
    if schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema:
        return
    if isinstance(value, dict):
        assert set(value) == set(schema["properties"]), path
        for key, inner in value.items():
            assert_covers(schema["properties"][key], inner, f"{path}.{key}")
    elif isinstance(value, list):
        assert_covers(schema["items"], value[0], f"{path}[]")
    else:
        words = {str: "string", bool: "boolean", int: "integer"}
        assert schema["type"] == words[type(value)], path


def test_a_wrong_type_names_its_field():
    with pytest.raises(ObjectDecodeError) as caught:
        decode_device(b'{"spec":{"properties":[{"name":"p","desired":{"value":1}}]}}')
    assert caught.value.field == "spec.properties[0].desired.value"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"\xff", b"{", b'{"a":' * 100_000, b'{"kind":"\xff"}']
)
def test_what_is_no_object_is_an_error(body):
    with pytest.raises(ObjectDecodeError):
        decode_device(body)


def test_the_samples_are_valid():
    model, lamp = (json.dumps(document).encode() for document in sample_documents())
    typed = decode_model(model)
    assert (check_model(typed), check_device(decode_device(lamp), typed)) == ([], [])


def test_the_crds_have_columns_status_and_short_names():
    models, devices = (document["spec"] for document in crd_documents()[:2])
    (version,) = devices["versions"]
    columns = [c["name"] for c in version["additionalPrinterColumns"] if not c.get("priority")]
    assert columns == ["Node", "Model", "State", "Synced", "Age"]
    assert version["subresources"] == {"status": {}}
    assert (models["names"]["shortNames"], devices["names"]["shortNames"]) == (["dm"], ["dev"])
