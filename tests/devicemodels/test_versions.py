"""Twins with versions: what is older is never taken, whatever comes in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicemodels.objects import Device, DeviceModel, Metadata, ModelProperty, ModelSpec
from devicemodels.twin import Reading, Twin, merge_readings
from devicemodels.values import DeviceModelError
from devicemodels.versions import Version, Versioned, merge_versioned

MODEL = DeviceModel(spec=ModelSpec(properties=(ModelProperty(name="p", type="INT", maximum="50"),)))
DEVICE = Device(metadata=Metadata(name="d", namespace="n"))
counts = st.integers(0, 4)
versions = st.builds(Version, counts, counts)


def expect(value, version):
    return {"p": Versioned(Reading(observed_desired=str(value)), expected=version)}


@given(st.lists(st.tuples(st.integers(0, 50), versions) | st.integers(0, 50), max_size=12))
def test_a_version_never_goes_back_and_what_is_behind_changes_nothing(steps):
    """Versioned values and, between them, changes of a program at the edge."""
    twin, held, value = Twin("u"), Version(), None
    for now_ms, step in enumerate(steps):
        if isinstance(step, int):
            said = {"p": Reading(observed_desired=str(step))}
            merged = merge_readings(twin, "n/d", MODEL, said, now_ms, device=DEVICE)
            after = merged.twin.properties["p"]
            assert after.local_count in (held.edge, held.edge + 1)
            twin, value, held = merged.twin, str(step), held._replace(edge=after.local_count)
            continue
        wanted, version = step
        synced = merge_versioned(twin, DEVICE, MODEL, expect(wanted, version), now_ms)
        if version.cloud < held.cloud or version.edge < held.edge:
            assert (synced.twin, list(synced.older)) == (twin, ["p"])
            continue
        assert not synced.older
        twin, value, held = synced.twin, str(wanted), version
        after = twin.properties["p"]
        assert (after.observed_desired.value, after.desired_count, after.local_count) == (
            value,
            *version,
        )


@pytest.mark.parametrize(
    ("came", "said"),
    [
        (Versioned(Reading(observed_desired="1")), "expected_version is missing"),
        (Versioned(Reading(reported="1")), "actual_version is missing"),
        (Versioned(Reading(observed_desired="51"), Version()), "more than the maximum of 50"),
    ],
)
def test_what_cannot_be_taken_is_said_by_name(came, said):
    with pytest.raises(DeviceModelError, match=f"device n/d: property 'p': .*{said}"):
        merge_versioned(Twin("u"), DEVICE, MODEL, {"p": came}, 1)


def test_a_deletion_needs_no_version_and_is_older_only_with_one():
    held = merge_readings(
        Twin("u"), "n/d", MODEL, {"p": Reading(observed_desired="1")}, 1, device=DEVICE
    ).twin
    gone = Reading(deleted=True)
    older = merge_versioned(held, DEVICE, MODEL, {"p": Versioned(gone, Version())}, 2)
    assert list(older.older) == ["p"]
    assert older.twin == held
    deleted = merge_versioned(held, DEVICE, MODEL, {"p": Versioned(gone)}, 2).twin
    assert deleted.properties["p"].observed_desired is None
    assert deleted.properties["p"].local_count == 2


def test_each_property_is_taken_by_itself():
    model = DeviceModel(spec=ModelSpec(properties=tuple(ModelProperty(name=n) for n in "pq")))
    first = merge_versioned(Twin("u"), DEVICE, model, expect("1", Version(3, 0)), 1).twin
    both = expect("2", Version(2, 9)) | {
        "q": Versioned(Reading(reported="x"), actual=Version(0, 7))
    }
    synced = merge_versioned(first, DEVICE, model, both, 2)
    assert (list(synced.older), list(synced.touched)) == (["p"], ["q"])
    assert synced.twin.properties["q"].reported_count == 7
