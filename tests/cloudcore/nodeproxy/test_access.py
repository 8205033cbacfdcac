"""Who asks, and whether they may: asked of the cluster, remembered for a while, denied by default."""

from __future__ import annotations

import pytest

from cloudcore.kube.reviews import (
    ACCESS_REVIEWS,
    ALLOWED_TTL_S,
    DENIED_TTL_S,
    MAX_ENTRIES,
    MAX_TOKEN_BYTES,
    DeniedError,
    ReviewError,
    UnauthenticatedError,
    User,
)
from cloudcore.nodeproxy.access import Access, Question
from tests.fakes.nodeproxy import FakeReviews

LOGS = Question("edge-1", "get", "proxy")


@pytest.fixture
def reviews():
    return FakeReviews()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def access(reviews, clock):
    return Access(reviews, clock)


def certificate(*parts):
    return {"subject": tuple((part,) for part in parts)}


async def test_a_client_certificate_is_a_user_with_groups(access, reviews):
    shown = certificate(("organizationName", "a"), ("organizationName", "b"), ("commonName", "joe"))
    user = await access.user(shown, "Bearer good")
    assert user == User("joe", groups=("a", "b", "system:authenticated"))
    assert reviews.asked == []


async def test_a_token_is_reviewed_once_in_a_while(access, reviews, clock):
    for _ in range(3):
        assert (await access.user(None, "bearer good")).username == "jane"
    assert len(reviews.asked) == 1
    clock.now += ALLOWED_TTL_S
    await access.user(None, "Bearer good")
    assert len(reviews.asked) == 2


@pytest.mark.parametrize(
    ("shown", "header"),
    [
        pytest.param(None, "", id="anonymous"),
        pytest.param(None, "Basic good", id="another-scheme"),
        pytest.param(None, "Bearer", id="no-token"),
        pytest.param(None, "Bearer bad", id="unknown-token"),
        pytest.param(None, "Bearer " + "x" * (MAX_TOKEN_BYTES + 1), id="huge-token"),
        pytest.param(certificate(("organizationName", "a")), "", id="no-name"),
        pytest.param(certificate(("commonName", "a"), ("commonName", "b")), "", id="two-names"),
    ],
)
async def test_nobody_that_the_cluster_knows_is_refused(access, shown, header):
    with pytest.raises(UnauthenticatedError):
        await access.user(shown, header)


async def test_a_token_that_becomes_good_works_within_ten_seconds(access, reviews, clock):
    with pytest.raises(UnauthenticatedError):
        await access.user(None, "Bearer late")
    reviews.tokens["late"] = {"username": "late"}
    with pytest.raises(UnauthenticatedError):
        await access.user(None, "Bearer late")
    clock.now += DENIED_TTL_S
    assert (await access.user(None, "Bearer late")).username == "late"


async def test_a_right_is_asked_for_by_node_verb_and_part_and_denied_by_default(access, reviews):
    jane = await access.user(None, "Bearer good")
    with pytest.raises(
        DeniedError, match=r"user=jane, verb=get, resource=nodes, subresource=proxy"
    ):
        await access.check(jane, LOGS)
    path, spec = reviews.asked[-1]
    assert path == ACCESS_REVIEWS
    assert spec["resourceAttributes"] == {
        "verb": "get",
        "version": "v1",
        "resource": "nodes",
        "subresource": "proxy",
        "name": "edge-1",
    }
    assert (spec["user"], spec["uid"], spec["groups"]) == ("jane", "7", ["dev"])


async def test_one_right_is_not_another_and_one_user_is_not_another(access, reviews):
    reviews.allowed.add(("jane", "get", "proxy"))
    jane = await access.user(None, "Bearer good")
    await access.check(jane, LOGS)
    for other in (LOGS.__class__("edge-1", "create", "proxy"), Question("edge-1", "get", "stats")):
        with pytest.raises(DeniedError):
            await access.check(jane, other)
    with pytest.raises(DeniedError):
        await access.check(User("jane2"), LOGS)


async def test_a_cluster_that_cannot_be_asked_means_no(access, reviews):
    reviews.down = True
    with pytest.raises(ReviewError):
        await access.user(None, "Bearer good")
    with pytest.raises(ReviewError):
        await access.check(User("jane"), LOGS)


async def test_any_number_of_callers_is_remembered_in_bounded_memory(access):
    for number in range(MAX_ENTRIES + 50):
        with pytest.raises(DeniedError):
            await access.check(User(f"user-{number}"), LOGS)
    assert len(access._reviews._answers._entries) == MAX_ENTRIES


async def test_an_answer_that_is_none_means_no(clock):
    class Odd:
        async def post(self, path, body):
            return b'{"status": {"allowed": "yes"}}'

    with pytest.raises(ReviewError):
        await Access(Odd(), clock).check(User("jane"), LOGS)
