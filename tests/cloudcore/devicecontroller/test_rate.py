"""How fast statuses are written follows how fast the API server answers."""

from cloudcore.devicecontroller.rate import MAX_PER_S, MIN_PER_S, SLOW_S, WriteRate


def test_turns_are_as_far_apart_as_the_rate_says():
    rate = WriteRate()
    turns = [rate.delay_s(10.0) for _ in range(5)]
    assert turns[0] == 0.0
    assert all(abs(turns[n] - n / MAX_PER_S) < 1e-9 for n in range(5))


def test_a_slow_second_halves_the_rate_once_and_quick_answers_bring_it_back():
    rate = WriteRate()
    for _ in range(50):
        rate.answered(SLOW_S, 5.0)
    assert rate.per_s == MAX_PER_S / 2
    rate.answered(SLOW_S, 6.0)
    assert rate.per_s == MAX_PER_S / 4
    for _ in range(int(MAX_PER_S)):
        rate.answered(0.01, 7.0)
    assert rate.per_s == MAX_PER_S


def test_the_rate_never_falls_to_nothing():
    rate = WriteRate()
    for second in range(100):
        rate.refused(float(second))
    assert rate.per_s == MIN_PER_S
