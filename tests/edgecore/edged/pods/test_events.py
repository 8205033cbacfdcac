from __future__ import annotations

import json

from edgecore.edged.pods.events import BURST, REFILL_S, EventRecorder, EventSubject

POD = EventSubject("Pod", "default", "web", "u-1")


def record(recorder, message="m", **fields):
    report = recorder.event(POD, "BackOff", message, warning=True, **fields)
    return report and (report, json.loads(report.body))


def test_a_repeated_event_keeps_its_name_and_counts(clock):
    recorder = EventRecorder("edge-1", clock)
    first, _ = record(recorder, field="spec.containers{app}")
    clock.now_s += 60
    second, body = record(recorder, field="spec.containers{app}")
    assert first.key == second.key
    assert body["count"] == 2
    assert body["firstTimestamp"] == "2026-09-21T14:13:20Z"
    assert body["lastTimestamp"] == "2026-09-21T14:14:20Z"
    assert body["involvedObject"]["fieldPath"] == "spec.containers{app}"


def test_events_that_differ_have_names_of_their_own(clock):
    recorder = EventRecorder("edge-1", clock)
    keys = {record(recorder, m, field=f)[0].key for m in "ab" for f in ("", "x")}
    assert len(keys) == 4
    other = EventRecorder("edge-1", clock)
    assert {record(other, m, field=f)[0].key for m in "ab" for f in ("", "x")} == keys


def test_a_flood_is_cut_and_comes_back_slowly(clock):
    recorder = EventRecorder("edge-1", clock)
    sent = [record(recorder, str(n)) for n in range(BURST + 10)]
    assert sum(s is not None for s in sent) == BURST
    clock.now_s += REFILL_S
    assert [record(recorder, f"later {n}") is not None for n in range(2)] == [True, False]


def test_many_different_messages_of_one_reason_become_one_event(clock):
    recorder = EventRecorder("edge-1", clock)
    sent = [record(recorder, f"try {n}") for n in range(12)]
    bodies = [body for _, body in sent]
    assert [b["message"] for b in bodies[:9]] == [f"try {n}" for n in range(9)]
    assert [b["message"] for b in bodies[9:]] == [
        f"(combined from similar events): try {n}" for n in range(9, 12)
    ]
    assert [b["count"] for b in bodies[9:]] == [1, 2, 3]
    assert len({report.key for report, _ in sent[9:]}) == 1
    clock.now_s += 601  # a quiet while: the next ones are told one by one again
    assert record(recorder, "later")[1]["message"] == "later"


def test_a_long_message_and_a_long_name_fit_the_api(clock):
    subject = EventSubject("Pod", "default", "n" * 253, "u-2")
    report = EventRecorder("edge-1", clock).event(subject, "Failed", "x" * 5000, warning=True)
    assert len(report.key.name) <= 253
    assert len(json.loads(report.body)["message"]) == 1024
