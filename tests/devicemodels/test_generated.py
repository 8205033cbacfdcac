"""CRDs and reference page are made from one source, and are what that source makes now."""

from devicemodels.generate import crds, reference_page, stale
from devicemodels.manifests import crd_documents


def test_the_generated_files_are_current():
    assert stale() == [], "run: python -m devicemodels.generate"


def test_the_crds_that_are_shipped_are_the_generated_ones():
    assert crd_documents() == list(crds().values())


def schema(index, *path):
    found = crd_documents()[index]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for name in path:
        found = found["items"] if name == "[]" else found["properties"][name]
    return found


def test_properties_are_unique_by_name_and_twins_by_theirs():
    for index, path in ((0, ("spec", "properties")), (1, ("spec", "properties"))):
        found = schema(index, *path)
        assert found["x-kubernetes-list-map-keys"] == ["name"]
        assert "name" in found["items"]["required"]
    assert schema(1, "status", "twins")["x-kubernetes-list-map-keys"] == ["propertyName"]


def test_types_rules_and_limits_come_from_the_annotations():
    prop = schema(0, "spec", "properties", "[]")
    assert "JSON" in prop["properties"]["type"]["enum"]
    assert len(prop["x-kubernetes-validations"]) == 3
    qos = schema(1, "spec", "properties", "[]", "pushMethod", "mqtt", "qos")
    assert (qos["format"], qos["minimum"], qos["maximum"]) == ("int32", 0, 2)
    assert schema(1, "status")["x-kubernetes-preserve-unknown-fields"]


def test_the_page_has_a_row_for_every_field_and_every_rule():
    page = reference_page()
    for field in (
        "`spec.properties[].pushMethod.dbMethod.TDEngine.TDEngineClientConfig.dbName`",
        "`spec.properties[].conflict`",
        "`status.twins[].phase`",
    ):
        assert field in page
    assert "minimum must not be more than maximum" in page
