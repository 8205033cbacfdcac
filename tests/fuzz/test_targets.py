"""Every kept input, and whatever Hypothesis makes of them, goes through its decoder without a foreign error."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, twins

CORPUS = Path(__file__).parent / "corpus"
KEPT = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
# The others have a property of their own beside their tests, with inputs made for them.
WITHOUT_PROPERTY = [
    "claim",
    "device",
    "inventory",
    "jsonpath",
    "kube_body",
    "kube_patch",
    "kube_protobuf",
    "kube_streams",
    "kubeconfig",
    "model",
    "settings",
    "wire_to_cloud",
    "wire_to_edge",
]


def test_every_target_has_a_corpus_and_every_corpus_a_target():
    assert sorted(TARGETS) == sorted({path.parent.name for path in KEPT})


@pytest.mark.parametrize("path", KEPT, ids=lambda p: f"{p.parent.name}-{p.name[:20]}")
def test_a_kept_input_is_taken_or_refused(path):
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", WITHOUT_PROPERTY)
@pytest.mark.timeout(30)
def test_any_mutation_of_kept_inputs_is_taken_or_refused(name):
    seeds = [path.read_bytes() for path in KEPT if path.parent.name == name]

    @settings(max_examples=150, deadline=None)
    @given(mutations(seeds))
    def refuses(raw):
        TARGETS[name](raw)

    refuses()


@st.composite
def mutations(draw, seeds):
    """A kept input with pieces cut out, put in, doubled, or another one's tail."""
    raw = draw(st.sampled_from(seeds) | st.binary(max_size=64))
    for _ in range(draw(st.integers(0, 3))):
        begin = draw(st.integers(0, len(raw)))
        end = draw(st.integers(begin, min(len(raw), begin + 16)))
        piece = draw(st.binary(max_size=8) | st.just(raw[begin:end] * 2) | st.sampled_from(seeds))
        raw = raw[:begin] + piece[:512] + raw[end:]
    return raw


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["batch", "inventory"])
def test_the_twins_agree_on_mutations_of_kept_inputs(name):
    """Here for the sanitizers: nothing that the compiled codec is given may make it leave its buffers."""
    assert len(twins()) == 2
    seeds = [path.read_bytes() for path in KEPT if path.parent.name == name]
    given(mutations(seeds))(TARGETS[name])()
