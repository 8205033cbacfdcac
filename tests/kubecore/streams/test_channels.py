import json

from hypothesis import given
from hypothesis import strategies as st

from kubecore.streams import spdy
from kubecore.streams.channels import ChannelTranslator, Wanted

ALL = Wanted(stdin=True, stdout=True, stderr=True, tty=False)
TERMINAL = Wanted(stdin=True, stdout=True, stderr=True, tty=True)


def opened(translator):
    return [f.headers["streamtype"] for f in spdy.SpdyConnection().feed(translator.opening())]


def frames(raw):
    return list(spdy.SpdyConnection().feed(raw))


def test_streams_are_opened_in_the_order_kubelets_expect():
    assert opened(ChannelTranslator(ALL)) == ["error", "stdin", "stdout", "stderr"]


def test_a_terminal_has_no_stderr_and_can_be_resized():
    assert opened(ChannelTranslator(TERMINAL)) == ["error", "stdin", "stdout", "resize"]


def test_input_and_sizes_go_to_their_streams():
    translator = ChannelTranslator(TERMINAL)
    translator.opening()
    assert frames(translator.to_kubelet(b"\0ls\n")) == [spdy.Data(3, b"ls\n", fin=False)]
    size = b'{"Width":80,"Height":24}'
    assert frames(translator.to_kubelet(b"\4" + size)) == [spdy.Data(7, size, fin=False)]


def test_closing_stdin_ends_its_stream_and_no_other():
    translator = ChannelTranslator(ALL)
    assert frames(translator.to_kubelet(b"\xff\0")) == [spdy.Data(3, b"", fin=True)]
    assert translator.to_kubelet(b"\0late") == b""
    assert translator.to_kubelet(b"\xff\1") == b""
    assert not translator.ended


def test_output_and_its_end_come_back():
    translator = ChannelTranslator(ALL)
    raw = spdy.data_frame(5, b"out") + spdy.data_frame(7, b"err", fin=True) + spdy.ping(4)
    messages, answers = translator.from_kubelet(raw)
    assert messages == [b"\1out", b"\2err"]
    assert frames(answers) == [spdy.Ping(4)]
    assert not translator.ended
    status = b'{"status":"Success"}'
    messages, _ = translator.from_kubelet(
        spdy.data_frame(5, b"", fin=True) + spdy.data_frame(1, status, fin=True)
    )
    assert messages == [b"\3" + status]
    assert translator.ended
    assert translator.farewell() is None


def test_a_connection_that_breaks_is_a_failure_said_on_the_error_channel():
    translator = ChannelTranslator(ALL)
    translator.from_kubelet(spdy.data_frame(5, b"half"))
    last = translator.farewell()
    assert last[0] == 3
    assert json.loads(last[1:])["status"] == "Failure"
    assert "was lost" in json.loads(last[1:])["message"]


@given(st.lists(st.binary(max_size=6), max_size=10))
def test_any_messages_of_a_client_make_frames_of_streams_it_may_write(messages):
    translator = ChannelTranslator(TERMINAL)
    for message in messages:
        for frame in frames(translator.to_kubelet(message)):
            assert frame.stream in (3, 7)
