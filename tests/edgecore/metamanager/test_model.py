"""Any sequence of commits, acknowledgements and restarts, compared with plain dictionaries."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgecore.metamanager.store import MetaStore
from edgecore.records import Commit, Report
from synccore.index import key_hash
from synccore.messages import Delta, Lane, ObjectKey, Op

KEYS = st.builds(
    ObjectKey, st.sampled_from(["Pod", "Secret"]), st.just("d"), st.sampled_from("abc")
)
VERSIONS = st.sampled_from([0, 1, 2, 1 << 63, (1 << 64) - 1])
DELTAS = st.builds(
    Delta,
    st.sampled_from([Op.UPSERT, Op.UPSERT, Op.TOMBSTONE]),
    KEYS,
    st.sampled_from(["u-1", "u-2"]),
    VERSIONS,
)
FORGETS = KEYS.map(lambda key: Delta(Op.FORGET, ObjectKey("", "", ""), "", key_hash(key)))
REPORTS = st.builds(
    Report,
    KEYS,
    st.just("u"),
    st.binary(max_size=3),
    st.just(Lane.PODS),
    st.sampled_from([Op.UPSERT, Op.TOMBSTONE, Op.APPEND]),
)
NOTES = st.dictionaries(
    st.tuples(st.sampled_from("xy"), st.sampled_from("kl")), st.none() | st.binary(max_size=3)
)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.objects, self.notes, self.rows = {}, {}, []
        self.highest, self.reopened = 0, False
        self.open()

    def open(self):
        self.store = MetaStore(Path(self.directory.name) / "edge.db")
        self.runner.run(self.store.__aenter__())

    def close(self):
        self.runner.run(self.store.__aexit__(None, None, None))

    @rule(
        deltas=st.lists(DELTAS | FORGETS, max_size=4),
        reports=st.lists(REPORTS, max_size=4),
        notes=NOTES,
    )
    def commit(self, deltas, reports, notes):
        feed = self.store.feed("Pod", "Secret")
        before = dict(self.objects)
        touched = self.apply(deltas)
        self.runner.run(self.store.commit(Commit(deltas, reports, notes)))
        told = self.runner.run(feed.changed()) if feed_has_news(feed) else set()
        assert {
            key for key in self.objects | before if self.objects.get(key) != before.get(key)
        } <= told
        assert told == touched
        if self.reopened and reports:  # an opening leaves out some numbers, and takes none again
            [*_, last] = self.runner.run(self.store.unsent(Lane.PODS, 0, 1000, 1 << 20))
            assert last.version - len(reports) >= self.highest
            self.highest, self.reopened = last.version - len(reports), False
        for report in reports:
            self.highest += 1
            self.rows = [row for row in self.rows if not replaces(report, row[0])]
            self.rows.append((report, self.highest))
        for where, value in notes.items():
            self.notes.pop(where, None)
            if value is not None:
                self.notes[where] = value

    def apply(self, deltas):
        """Change the model; return the keys a feed must tell of."""
        touched = set()
        for delta in deltas:
            if delta.op is Op.FORGET:
                gone = [key for key in self.objects if key_hash(key) == delta.version]
            else:
                gone = [delta.key] if delta.key in self.objects else []
            if delta.op is not Op.UPSERT:
                touched.update(gone)
                for key in gone:
                    del self.objects[key]
            elif not gone or self.objects[delta.key][1] != delta.version:
                self.objects[delta.key] = (delta.uid, delta.version)
                touched.add(delta.key)
        return touched

    @rule(share=st.floats(0, 1), stale=st.booleans())
    def acknowledge(self, share, stale):
        rows = self.rows[: int(len(self.rows) * share)]
        versions = [(report.key, version - stale) for report, version in rows]
        gone = {(key, version) for key, version in versions}
        self.runner.run(self.store.acknowledge(Lane.PODS, versions))
        self.rows = [row for row in self.rows if (row[0].key, row[1]) not in gone]

    @rule()
    def restart(self):
        identity = self.store.database_id
        self.close()
        self.open()
        self.reopened = True
        assert self.store.database_id == identity

    @invariant()
    def store_equals_model(self):
        stored = [
            item for kind in ("Pod", "Secret") for item in self.runner.run(self.store.list(kind))
        ]
        assert {item.key: (item.uid, item.version) for item in stored} == self.objects
        index = self.store.index
        held = {key: (uid, index.version(key)) for key, (uid, _) in self.objects.items()}
        assert (held, len(index)) == (self.objects, len(self.objects))
        rows = self.runner.run(self.store.unsent(Lane.PODS, 0, 1000, 1 << 20))
        assert [tuple(row) for row in rows] == self.rows
        for owner in "xy":
            mine = {key: value for (other, key), value in self.notes.items() if other == owner}
            assert self.runner.run(self.store.local(owner)) == mine

    def teardown(self):
        self.close()
        self.runner.close()
        self.directory.cleanup()


def replaces(newer, older):
    return Op.APPEND not in (newer.op, older.op) and newer.key == older.key


def feed_has_news(feed):
    return bool(feed._pending)


TestStore = pytest.mark.timeout(60)(StoreMachine.TestCase)
TestStore.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)
