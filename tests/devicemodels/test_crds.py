"""The CRDs as an API server uses them: KubeEdge's manifests pass unchanged, what cannot be is refused by its field."""

import copy

import pytest
import yaml

from devicemodels.manifests import crd_documents
from kubecore.kinds.crds import crd_causes, resources_of
from kubecore.schema.checking import InvalidObjectError, check

MODELS, DEVICES, STATUSES = (resources_of(crd)[0] for crd in crd_documents())

# As a KubeEdge user writes them, every field of v1beta1 used.
MODEL = """
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: boiler, namespace: plant}
spec:
  protocol: modbus
  protocolConfigData: {ip: 10.0.0.9, port: 502, nested: {retries: [1, 2]}}
  properties:
    - {name: temperature, description: of the water, type: DOUBLE, accessMode: ReadOnly, minimum: "-10", maximum: "120.5", unit: C}
    - {name: setpoint, type: FLOAT, accessMode: ReadWrite, minimum: "5", maximum: "90"}
    - {name: mode, type: STRING, accessMode: ReadWrite}
    - {name: burner, type: BOOLEAN, accessMode: ReadWrite}
    - {name: cycles, type: INT, accessMode: ReadOnly}
    - {name: firmware, type: BYTES, accessMode: ReadOnly}
    - name: saveFrame
      type: STREAM
      accessMode: ReadOnly
      visitors: {protocolName: onvif, configData: {format: jpg}}
"""
DEVICE = """
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: boiler-1, namespace: plant, labels: {description: the-old-one}}
spec:
  deviceModelRef: {name: boiler}
  nodeName: edge-1
  protocol: {protocolName: modbus, configData: {slaveID: 1, serial: {baud: 9600}, dataFormat: json}}
  methods:
    - {name: heat, description: sets what it should be, propertyNames: [setpoint, burner]}
  stateReport: {reportToCloud: true, reportCycle: 10000}
  properties:
    - name: temperature
      collectCycle: 500
      reportCycle: 1000
      reportToCloud: true
      visitors: {protocolName: modbus, configData: {register: HoldingRegister, offset: 2, limit: 1, scale: 0.1, isSwap: true}}
      pushMethod:
        http: {hostName: http://127.0.0.1, port: 8080, requestPath: /values, timeout: 5}
        mqtt: {address: "tcp://127.0.0.1:1883", topic: boiler/temperature, qos: 1, retained: true}
        otel: {endpointURL: "http://127.0.0.1:4318"}
        anomalyDetection: {kind: threshold, limits: {high: 95}}
        dbMethod:
          influxdb2:
            influxdb2ClientConfig: {url: "http://127.0.0.1:8086", org: plant, bucket: b}
            influxdb2DataConfig: {measurement: m, tag: {unit: C}, fieldKey: f}
          redis: {redisClientConfig: {addr: "127.0.0.1:6379", db: 0, poolsize: 30, minIdleConns: 30}}
          TDEngine: {TDEngineClientConfig: {addr: "127.0.0.1:6041", dbName: d}}
          mysql: {mysqlClientConfig: {addr: "127.0.0.1:3306", database: d, userName: u}}
    - name: setpoint
      desired: {value: "60.5", metadata: {timestamp: "1767225600000", type: float}}
status: {reportToCloud: true, reportCycle: 10000, somebodyElses: {x: 1}}
"""
# As KubeEdge's devicecontroller (>= 1.23) leaves one.
STATUS = """
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceStatus
metadata:
  name: boiler-1
  namespace: plant
  ownerReferences:
    - {apiVersion: devices.kubeedge.io/v1beta1, kind: Device, name: boiler-1, uid: u-1, controller: true}
spec: {}
status:
  state: online
  lastOnlineTime: "2026-01-01T00:00:00Z"
  extensions: {somebodyElses: {x: 1}}
  twins:
    - propertyName: setpoint
      reported: {value: "60.5", metadata: {timestamp: "1767225600000", type: float}}
      observedDesired: {value: "60.5", metadata: {timestamp: "1767225600000", type: float}}
    - {propertyName: mode}
"""


def parsed(text):
    return yaml.safe_load(text)


@pytest.mark.parametrize(
    ("resource", "text"), [(MODELS, MODEL), (DEVICES, DEVICE), (STATUSES, STATUS)]
)
def test_a_manifest_written_for_kubeedge_is_taken_unchanged(resource, text):
    document = parsed(text)
    checked = check(resource, copy.deepcopy(document), field_validation="Strict")
    assert (checked.obj, checked.warnings) == (document, [])


def test_the_definitions_are_structural():
    assert [crd_causes(crd) for crd in crd_documents()] == [[], [], []]


def prop(**changes):
    document = parsed(MODEL)
    document["spec"]["properties"] = [{"name": "p", "type": "INT", **changes}]
    return MODELS, document


def device(**changes):
    document = parsed(DEVICE)
    document["spec"]["properties"][0].update(changes)
    return DEVICES, document


def twice():
    resource, document = prop()
    document["spec"]["properties"] *= 2
    return resource, document


@pytest.mark.parametrize(
    ("made", "field", "said"),
    [
        (prop(type="int"), "spec.properties[0].type", 'unsupported value: "int"'),
        (prop(accessMode="WriteOnly"), "spec.properties[0].accessMode", "Unsupported value"),
        (prop(minimum="many"), "spec.properties[0]", "minimum must be a number"),
        (prop(type="DOUBLE", maximum="1,5"), "spec.properties[0]", "maximum must be a number"),
        (prop(minimum="9", maximum="1e0"), "spec.properties[0]", "minimum must not be more"),
        (prop(reporting={"deadBand": "x"}), "spec.properties[0].reporting.deadBand", "match"),
        (prop(history={"keepSeconds": -1}), "spec.properties[0].history.keepSeconds", "greater"),
        (prop(name="x" * 129), "spec.properties[0].name", "Too long"),
        (twice(), "spec.properties[1]", "Duplicate value"),
        (device(collectCycle=-1), "spec.properties[0].collectCycle", "greater than or equal to 0"),
        (device(conflict="Mine"), "spec.properties[0].conflict", "Unsupported value"),
        (device(desired={}), "spec.properties[0].desired.value", "Required value"),
        (device(pushMethod={"mqtt": {"qos": 3}}), "spec.properties[0].pushMethod.mqtt.qos", "less"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(made, field, said):
    resource, document = made
    with pytest.raises(InvalidObjectError) as caught:
        check(resource, document)
    found = [f"{c.field}: {c.message}" for c in caught.value.causes]
    assert any(
        cause.startswith(f"{field}: ") and said.lower() in cause.lower() for cause in found
    ), found


@pytest.mark.parametrize("kind", ["STRING", "BOOLEAN", "JSON"])
def test_limits_of_what_is_no_number_are_left_alone(kind):
    resource, document = prop(type=kind, minimum="a", maximum="")
    assert check(resource, document).obj["spec"]["properties"][0]["minimum"] == "a"
