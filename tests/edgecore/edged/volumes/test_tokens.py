"""Service account tokens: kept, renewed early, and never taken away before there is another."""

from __future__ import annotations

import asyncio
import json

import pytest

from corekit.timestamps import rfc3339
from edgecore.edged.volumes.tokens import OWNER, TokenManager, token_sources
from synccore.asking import AskError
from tests.fakes.pods import make_pod
from tests.fakes.store import MemoryStore
from tests.fakes.uplink import FakeUplink

HOUR_S = 3600.0


def projected(*sources):
    sources = [{"serviceAccountToken": {"path": "token", **source}} for source in sources or [{}]]
    return {"name": "api", "projected": {"sources": sources}}


class Site:
    """One node with one pod, and a cloud that numbers the tokens it makes."""

    def __init__(self, clock, *sources, store=None):
        self.clock, self.store, self.uplink = clock, store or MemoryStore(), FakeUplink()
        self.pod = make_pod(volumes=[projected(*sources)], serviceAccountName="robot")
        self.manager = TokenManager(self.store, self.uplink, clock)
        self.made = 0

    def link(self):
        self.uplink.answer = self._answer

    def cut(self):
        self.uplink.answer = None

    def refuse(self, status, reason):
        def refuse(kind, _body):
            raise AskError(kind, status, reason)

        self.uplink.answer = refuse

    def _answer(self, _kind, body):
        self.made += 1
        asked = json.loads(body)
        end = rfc3339(self.clock() + asked["expirationSeconds"])
        return json.dumps({"token": f"t{self.made}", "expirationTimestamp": end}).encode()

    async def tokens(self):
        view = await self.manager.view(self.pod)
        return [view.contents[s].decode() for s in token_sources(self.pod) if s in view.contents]

    async def after(self, seconds):
        self.clock.now_s += seconds
        return await self.tokens()


@pytest.fixture
def site(clock):
    return Site(clock)


async def test_a_token_is_asked_for_once_for_its_pod_its_account_and_its_audience(clock):
    site = Site(clock, {"audience": "vault", "expirationSeconds": 600})
    site.link()
    assert await site.tokens() == await site.tokens() == ["t1"]
    ((kind, body),) = site.uplink.asked
    assert (kind, json.loads(body)) == (
        "TokenRequest",
        {
            "namespace": "default",
            "serviceAccount": "robot",
            "audiences": ["vault"],
            "expirationSeconds": 600,
            "pod": {"name": "web", "uid": "u-1"},
        },
    )


@pytest.mark.parametrize(("life_s", "renewed_s"), [(HOUR_S, 0.8 * HOUR_S), (1e6, 24 * HOUR_S)])
async def test_a_token_is_renewed_at_four_fifths_of_its_life_or_after_a_day(
    clock, life_s, renewed_s
):
    site = Site(clock, {"expirationSeconds": int(life_s)})
    site.link()
    await site.tokens()
    due_s = site.manager.due_s(site.pod) - clock()
    assert renewed_s - 11 < due_s <= renewed_s
    assert await site.after(due_s - 1) == ["t1"]
    assert await site.after(2) == ["t2"]


async def test_without_a_link_the_last_token_is_served_beyond_its_end_and_renewed_with_the_link(
    site, caplog
):
    site.link()
    await site.tokens()
    site.cut()
    assert await site.after(0.9 * HOUR_S) == ["t1"]
    assert "the last one goes on being served" in caplog.text
    assert (await site.manager.view(site.pod)).expired == ()
    assert await site.after(30 * HOUR_S) == ["t1"]
    (said,) = (await site.manager.view(site.pod)).expired
    assert said.startswith('token "token" of service account robot expired')
    site.link()
    site.manager.retry_now()
    assert await site.tokens() == ["t2"]
    assert (await site.manager.view(site.pod)).expired == ()


async def test_a_token_survives_a_restart_without_a_link(site, clock):
    site.link()
    await site.tokens()
    again = Site(clock, store=site.store)
    await again.manager.load()
    assert await again.after(50 * HOUR_S) == ["t1"]


async def test_a_first_token_that_is_refused_says_why_and_is_asked_for_again(site):
    site.refuse(403, 'serviceaccounts "robot" is forbidden')
    view = await site.manager.view(site.pod)
    assert list(view.problems.values()) == [
        'failed to fetch token: serviceaccounts "robot" is forbidden'
    ]
    site.link()
    assert await site.tokens() == []  # not asked again at once,
    assert await site.after(300) == ["t1"]  # but in time


async def test_a_refused_renewal_leaves_the_old_token(site):
    site.link()
    await site.tokens()
    site.refuse(404, 'serviceaccounts "robot" not found')
    assert await site.after(HOUR_S) == ["t1"]
    assert site.store.notes


async def test_a_token_is_durable_before_it_is_shown(site):
    site.link()
    hold = asyncio.Event()
    commit = site.store.commit

    async def slow(what):
        await hold.wait()
        await commit(what)

    site.store.commit = slow
    asking = asyncio.create_task(site.tokens())
    await asyncio.sleep(0.01)
    assert not asking.done()
    hold.set()
    assert await asking == ["t1"]


async def test_tokens_of_a_pod_that_is_gone_are_dropped(site):
    site.link()
    await site.tokens()
    await site.manager.forget("u")  # the beginning of its uid
    assert len(await site.store.local(OWNER)) == 1
    await site.manager.forget("u-1")
    assert await site.store.local(OWNER) == {}


async def test_tokens_of_pods_that_went_while_the_agent_was_down_are_dropped(site):
    site.link()
    await site.tokens()
    await site.manager.keep_only({"u-1"})
    assert len(await site.store.local(OWNER)) == 1
    await site.manager.keep_only({"u-2"})
    assert await site.store.local(OWNER) == {}


async def test_one_token_is_shown_under_two_paths(clock):
    site = Site(clock, {"path": "a"}, {"path": "b"})
    site.link()
    assert await site.tokens() == ["t1", "t1"]


async def test_a_clock_that_is_years_behind_does_not_keep_a_token_for_years(site, clock):
    site.uplink.answer = lambda *_: json.dumps(
        {"token": "t", "expirationTimestamp": rfc3339(clock() + 10 * 365 * 86400)}
    ).encode()
    await site.tokens()
    assert site.manager.due_s(site.pod) - clock() <= HOUR_S


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"token":"t","expirationTimestamp":"soon"}'])
async def test_an_answer_that_is_no_token_is_a_failure(site, answer):
    site.uplink.answer = lambda *_: answer
    (problem,) = (await site.manager.view(site.pod)).problems.values()
    assert problem.startswith("failed to fetch token: the answer does not decode")
