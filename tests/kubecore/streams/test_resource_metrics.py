from hypothesis import given
from hypothesis import strategies as st

from kubecore.streams.resource_metrics import Usage, parse_page, usage_between

PAGE = """# HELP node_cpu_usage_seconds_total Cumulative cpu time
node_cpu_usage_seconds_total {node} {at}000
node_memory_working_set_bytes 1.5e+08 {at}000
container_cpu_usage_seconds_total{{container="c",namespace="n",pod="p"}} {pod} {at}000
container_memory_working_set_bytes{{container="c",namespace="n",pod="p"}} 4096 {at}000
container_start_time_seconds{{container="c",namespace="n",pod="p"}} 9
"""


def page(at, node, pod):
    return parse_page(PAGE.format(at=at, node=node, pod=pod), 0.0)


def test_use_is_what_was_counted_between_two_pages():
    usage = usage_between(page(100, 10, 5), page(110, 15, 5.5))
    assert (usage.at_s, usage.window_s) == (110, 10)
    assert usage.node == Usage(500_000_000, 150_000_000)
    assert usage.containers == {("n", "p", "c"): Usage(50_000_000, 4096)}


def test_a_container_that_counts_anew_is_left_out_until_the_next_page():
    usage = usage_between(page(100, 10, 5), page(110, 15, 0.5))
    assert usage.containers == {}
    assert usage.node is not None


def test_two_pages_of_one_moment_say_nothing():
    assert usage_between(page(100, 10, 5), page(100, 10, 5)) is None


def test_what_is_no_number_is_skipped():
    text = "node_cpu_usage_seconds_total NaN\nnode_memory_working_set_bytes x\n{}\n\n"
    assert parse_page(text, 0.0).cpu == {}


@given(st.text(alphabet='node_cpu_usage_seconds_total{}="1 \n\\', max_size=200))
def test_any_text_is_a_page(text):
    parse_page(text, 1.0)
