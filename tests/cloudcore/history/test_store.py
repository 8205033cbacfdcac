"""The file of kept values: what comes back after a restart, what goes, and what is left when it is full or damaged."""

from array import array
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudcore.history import store
from cloudcore.history.columns import Column
from cloudcore.history.errors import HistoryDamagedError, HistoryFullError
from cloudcore.history.store import Keep, ValueFile
from synccore.series import Series

pytestmark = pytest.mark.timeout(30)

T, P = Series("default/a", "temperature"), Series("default/a", "pressure")
OTHER = Series("default/b", "temperature")
NOW_MS, MIB, END = 1_000_000, 1 << 20, (1 << 63) - 1


def column(*times):
    return Column(array("q", times), [float(t) for t in times])


def read(file, series=T, uid="u", *, since=0, until=END, newest=0):
    found = []
    cursor = file.begin(series, uid, since_ms=since, until_ms=until, newest_count=newest)
    while cursor is not None:
        part, cursor = file.page(cursor)
        found += part.times
    return found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "values.db"


@pytest.fixture
def opened(path):
    files = []

    def open_one(max_bytes=64 * MIB):
        files.append(ValueFile(path, max_bytes))
        return files[-1]

    yield open_one
    for file in files:
        file.close()


@pytest.mark.parametrize("sealed", [False, True])
def test_what_was_added_is_there_after_a_kill(opened, path, sealed, tmp_path):
    file = opened()
    file.add([(T, "u", column(1, 2)), (P, "u", column(5))], NOW_MS)
    if sealed:
        file.seal(NOW_MS)
    file.add([(T, "u", column(3))], NOW_MS)
    for suffix in ("", "-wal"):  # as the disk is at this moment
        (tmp_path / f"copy{suffix}").write_bytes(path.with_name(path.name + suffix).read_bytes())
    again = ValueFile(tmp_path / "copy", MIB)
    assert (read(again), read(again, P)) == ([1, 2, 3], [5])
    again.seal(NOW_MS)
    assert read(again) == [1, 2, 3]
    again.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.just("seal")),
        max_size=30,
    ),
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(0, 12),
)
def test_reading_gives_what_was_added_by_time_whatever_was_sealed_between(
    steps, since, until, newest
):
    file = ValueFile(None, 64 * MIB)
    added = []
    for step in steps:
        if step == "seal":
            file.seal(NOW_MS)
        else:
            file.add([(T, "u", column(*step)), (OTHER, "u", column(7))], NOW_MS)
            added += step
    wanted = sorted(t for t in added if since <= t <= until)
    assert read(file, since=since, until=until) == wanted
    found = read(file, since=since, until=until, newest=newest)
    assert found[-newest:] == wanted[-newest:]
    file.close()


def test_many_overlapping_stretches_are_read_in_order_page_by_page(opened):
    file = opened()
    for number in range(5 * store.PAGE):
        file.add([(T, "u", column(number, number + 40))], NOW_MS)
        file.seal(NOW_MS)
    found = read(file)
    assert len(found) == 10 * store.PAGE
    assert all(one <= two for one, two in pairwise(found))


def test_a_reading_that_has_begun_sees_what_was_there_then(opened):
    file = opened()
    file.add([(T, "u", column(1, 2))], NOW_MS)
    cursor = file.begin(T, "u", since_ms=0, until_ms=END, newest_count=0)
    file.seal(NOW_MS)
    file.add([(T, "u", column(3))], NOW_MS)
    file.seal(NOW_MS)
    assert list(file.page(cursor)[0].times) == [1, 2]


def test_a_value_costs_a_few_bytes(opened):
    file = opened()
    for start in range(0, 200_000, 1_000):
        file.add([(T, "u", column(*range(start, start + 1_000)))], NOW_MS)
    file.seal(NOW_MS)
    assert file.used_bytes < 200_000 * 8


def test_a_device_of_the_same_name_begins_with_nothing(opened):
    file = opened()
    file.add([(T, "old", column(1)), (OTHER, "b", column(9))], NOW_MS)
    file.seal(NOW_MS)
    file.add([(T, "old", column(2)), (OTHER, "b", column(10))], NOW_MS)
    assert read(file, uid="new") == []
    file.add([(T, "new", column(3))], NOW_MS)
    assert (read(file, uid="new"), read(file, uid="old")) == ([3], [])
    file.close()
    again = opened()
    assert (read(again, uid="new"), read(again, OTHER, "b")) == ([3], [9, 10])


def test_what_is_not_asked_for_any_more_goes_and_what_is_too_old(opened):
    file = opened()
    for sealed in (True, False):
        times = column(1, 2) if sealed else column(8)
        file.add([(T, "u", times), (P, "u", times), (OTHER, "u", times)], NOW_MS)
        if sealed:
            file.seal(NOW_MS)
    file.tidy([T, P, OTHER], {T: Keep("u", 5), P: Keep("other", 0)})
    assert (read(file), read(file, P), read(file, OTHER)) == ([8], [], [])
    assert file.series == [T]
    file.close()
    assert read(opened()) == [8]


def test_what_was_not_asked_about_stays(opened):
    file = opened()
    file.add([(T, "u", column(1)), (P, "u", column(1))], NOW_MS)
    file.tidy([T], {})
    assert (read(file), read(file, P)) == ([], [1])


def test_values_of_a_far_future_are_not_kept_for_ever(opened):
    file = opened()
    file.add([(T, "u", column(1, NOW_MS + 2 * store.MAX_AHEAD_MS))], NOW_MS)
    file.seal(NOW_MS)
    assert (read(file), file.given_up_count) == ([1], 1)


def test_a_full_file_gives_up_the_oldest_of_who_has_the_most(opened, path):
    file, given_up = opened(MIB), 0
    sevenths = [t / 7 for t in range(20_000)]
    for start in range(0, 400_000, 20_000):
        values = Column(array("q", range(start, start + 20_000)), sevenths)
        file.add([(T, "u", values), (OTHER, "u", column(start))], NOW_MS)
        file.seal(NOW_MS)
        given_up += file.make_room()
    assert file.used_bytes < 1.5 * MIB
    assert path.stat().st_size < 3 * MIB
    kept = read(file)
    assert kept == list(range(kept[0], 400_000))
    assert given_up == kept[0] > 0
    assert len(read(file, OTHER)) == 20


def test_while_the_disk_is_full_values_stay_in_memory_and_then_go(opened, monkeypatch):
    file = opened()
    file.add([(T, "u", column(1))], NOW_MS)
    file._db.execute(f"PRAGMA max_page_count = {file._pragma('page_count')}")
    added = 0

    def add_until_full():
        nonlocal added
        while True:
            file.add([(T, "u", column(*range(10, 5_010)))], NOW_MS)
            added += 1

    with pytest.raises(HistoryFullError, match="full"):
        add_until_full()
    assert len(read(file)) == 1 + 5_000 * (added + 1)
    monkeypatch.setattr(store, "MAX_UNWRITTEN", file.held_count)
    with pytest.raises(HistoryFullError):
        file.add([(T, "u", column(2))], NOW_MS)
    assert file.given_up_count == 2 + 5_000 * (added + 1)
    file._db.execute("PRAGMA max_page_count = 1000000")
    file.add([(T, "u", column(3))], NOW_MS)
    assert read(file)[-1] == 3
    file.close()
    assert 3 in read(opened())


def test_one_damaged_stretch_is_dropped_and_the_rest_is_read(opened, caplog):
    file = opened()
    for time_ms in (1, 2, 3):
        file.add([(T, "u", column(time_ms))], NOW_MS)
        file.seal(NOW_MS)
    file._db.execute(
        "UPDATE stretch SET content = CAST(x'00' || content AS BLOB) WHERE first_ms = 2"
    )
    assert read(file) == [1, 3]
    assert "stretch 2 is damaged" in caplog.text
    assert read(file) == [1, 3]


@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_file_that_is_no_database_is_damaged(path, content):
    path.write_bytes(content)
    with pytest.raises(HistoryDamagedError):
        ValueFile(path, MIB)


def test_a_file_of_a_later_version_is_not_touched(opened, path):
    opened()._db.execute("PRAGMA user_version = 99")
    opened.__closure__[0].cell_contents[0].close()
    with pytest.raises(HistoryDamagedError, match="later version"):
        ValueFile(path, MIB)
