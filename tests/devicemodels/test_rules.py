"""Rules: what is wrong in a device or model is named by the path that kubectl users write."""

from devicemodels.objects import (
    Device,
    DeviceMethod,
    DeviceModel,
    DeviceProperty,
    DeviceSpec,
    Metadata,
    ModelProperty,
    ModelSpec,
    TwinValue,
)
from devicemodels.rules import check_device, check_model


def model(*properties):
    return DeviceModel(metadata=Metadata(name="m"), spec=ModelSpec(properties=properties))


def device(*properties, methods=()):
    return Device(
        metadata=Metadata(name="d", namespace="n"),
        spec=DeviceSpec(properties=properties, methods=methods),
    )


LEVEL = ModelProperty(name="level", type="INT", minimum="0", maximum="10")


def test_a_property_twice_is_named():
    (problem,) = check_model(model(LEVEL, LEVEL))
    assert str(problem) == "spec.properties[1].name: 'level' is there twice"


def test_limits_must_be_of_the_type_and_in_order():
    bad = ModelProperty(name="a", type="INT", minimum="1.5", maximum="9")
    crossed = ModelProperty(name="b", type="DOUBLE", minimum="2", maximum="1")
    fields = [problem.field for problem in check_model(model(bad, crossed))]
    assert fields == ["spec.properties[0].minimum", "spec.properties[1].minimum"]


def test_a_device_is_judged_by_its_model():
    wrong = device(
        DeviceProperty(name="level", desired=TwinValue(value="11")),
        DeviceProperty(name="colour"),
        methods=(DeviceMethod(name="set", property_names=("hue",)),),
    )
    problems = check_device(wrong, model(LEVEL))
    assert [p.field for p in problems] == [
        "spec.properties[0].desired.value",
        "spec.properties[1].name",
        "spec.methods[0].propertyNames",
    ]
    assert "'11' is more than the maximum of 10" in problems[0].problem


def test_a_good_device_has_no_problems():
    good = device(DeviceProperty(name="level", desired=TwinValue(value="10")))
    assert check_device(good, model(LEVEL)) == []
