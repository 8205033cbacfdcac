from __future__ import annotations

from edgecore.metamanager.store import MetaStore
from edgecore.records import Commit, Report
from synccore.messages import Lane, ObjectKey, Op

EVENT = ObjectKey("Event", "default", "e")


async def test_what_a_copy_logged_since_it_was_opened_gets_numbers_of_the_new_epoch(tmp_path):
    async with MetaStore(tmp_path / "edge.db") as store:
        logged = [Report(EVENT, "u", b"%d" % n, Lane.SAMPLES, Op.APPEND) for n in range(3)]
        await store.commit(Commit(reports=logged))
        before = await store.unsent(Lane.SAMPLES, 0, 10, 1000)
        await store.start_epoch()
        after = await store.unsent(Lane.SAMPLES, 0, 10, 1000)
        assert [row.report for row in after] == [row.report for row in before] == logged
        assert after[0].version > max(row.version for row in before)
        await store.commit(Commit(reports=logged[:1]))
        assert len(await store.unsent(Lane.SAMPLES, after[-1].version, 10, 1000)) == 1
        assert len({row.version for row in await store.unsent(Lane.SAMPLES, 0, 10, 1000)}) == 4
