"""Frames: what is packed is unpacked, and what is no frame is a ProtocolError or a CodecError."""

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorflow import codec, wire
from actorflow.errors import CodecError, ProtocolError
from actorflow.wire import Outbox, pack, unpack

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBER = st.integers(0, 1 << 60)
VALUE = st.none() | NUMBER | TEXT | st.lists(NUMBER, max_size=3) | st.dictionaries(TEXT, NUMBER, max_size=3)
ATTRIBUTES = st.none() | st.dictionaries(TEXT, TEXT, max_size=2)

FROM_CLIENT = [
    st.tuples(st.just(wire.HELLO), NUMBER, TEXT),
    st.tuples(st.just(wire.REQUEST), NUMBER, TEXT, VALUE, st.none() | st.floats(0, 9), ATTRIBUTES,
              st.sampled_from(wire.MODES), st.none() | TEXT),
    st.tuples(st.just(wire.ITEMS), NUMBER, st.lists(VALUE, max_size=3)),
    st.tuples(st.just(wire.END), NUMBER),
    st.tuples(st.just(wire.CREDIT), NUMBER, NUMBER),
    st.tuples(st.just(wire.CANCEL), NUMBER),
    st.tuples(st.just(wire.ASK), NUMBER, TEXT, VALUE),
    st.tuples(st.just(wire.FORGET), st.lists(TEXT, max_size=3)),
]  # fmt: skip
FROM_HOST = [
    st.tuples(st.just(wire.WELCOME), NUMBER, TEXT, NUMBER),
    st.tuples(st.just(wire.REPLY), NUMBER, VALUE),
    st.tuples(st.just(wire.VALUES), NUMBER, st.lists(VALUE, max_size=3)),
    st.tuples(st.just(wire.DONE), NUMBER),
    st.tuples(st.just(wire.ERROR), NUMBER | st.none(), st.dictionaries(TEXT, TEXT, max_size=2)),
    st.tuples(st.just(wire.ACCEPTED), NUMBER, TEXT, NUMBER),
    st.tuples(st.just(wire.ROOM), NUMBER, NUMBER),
    st.tuples(st.just(wire.PROGRESS), NUMBER, NUMBER, st.floats(0, 9), st.lists(VALUE, max_size=3), TEXT),
]


def frames_of(shapes: list[st.SearchStrategy[Any]]) -> st.SearchStrategy[list[list[Any]]]:
    return st.lists(st.one_of(shapes).map(list), max_size=5)


def read(data: bytes, *, from_client: bool = True) -> list[list[Any]]:
    return unpack(data, nesting_depth=16, from_client=from_client)


@given(frames_of(FROM_CLIENT), st.booleans())
def test_frames_of_a_client_arrive_as_they_were(frames: list[list[Any]], tagged: bool) -> None:
    assert read(pack(frames, tagged=tagged)) == frames


@given(frames_of(FROM_HOST), st.booleans())
def test_frames_of_a_host_arrive_as_they_were(frames: list[list[Any]], tagged: bool) -> None:
    assert read(pack(frames, tagged=tagged), from_client=False) == frames


@given(frames_of(FROM_CLIENT).filter(bool))
def test_frames_of_the_other_direction_are_refused(frames: list[list[Any]]) -> None:
    with pytest.raises(ProtocolError):
        read(pack(frames, tagged=False), from_client=False)


def test_tagged_frames_keep_tuples_and_sets_and_plain_ones_make_lists_of_them() -> None:
    frame = [wire.ITEMS, 1, [(1, 2), {3}]]

    assert read(pack([frame], tagged=True)) == [[wire.ITEMS, 1, [(1, 2), {3}]]]
    assert read(pack([frame], tagged=False)) == [[wire.ITEMS, 1, [[1, 2], [3]]]]


@pytest.mark.parametrize(
    "message",
    [
        None, 1, "x", {}, {"0": 1}, [1], ["x"], [None], [[]], [[None]], [["0", 1]], [[True, 1]], [[-1, 1]], [[7, 1]],
        [[15, 1]], [[16, 1, "h", 1]], [[24, 1]], [[99]], [[2**63, 1]], [[3.0, 1]], [{"0": 3}],
        [[wire.END]], [[wire.END, "1"]], [[wire.END, 1, 2]], [[wire.END, None]], [[wire.END, 1.0]],
        [[wire.HELLO, 1]], [[wire.HELLO, 1, 2]], [[wire.HELLO, "1", "tagged"]],
        [[wire.REQUEST, 1, "s", 1, None, None]], [[wire.REQUEST, 1, 2, 1, None, None, "one", None]],
        [[wire.REQUEST, 1, "s", 1, "soon", None, "one", "k"]], [[wire.REQUEST, 1, "s", 1, None, [], "one", "k"]],
        [[wire.REQUEST, 1, "s", 1, None, None, None, None]], [[wire.REQUEST, 1, "s", 1, None, None, "one", 1]],
        [[wire.ITEMS, 1, {}]], [[wire.ITEMS, 1, None]],
        [[wire.CREDIT, 1]], [[wire.CREDIT, 1, "2"]], [[wire.CREDIT, 1, 2.5]], [[wire.ASK, 1, 2, 3]],
        [[wire.END, 1], [wire.END]],
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_frame_is_a_protocol_error(message: Any) -> None:
    with pytest.raises(ProtocolError):
        read(msgpack.packb(message))


@pytest.mark.parametrize("message", [([wire.END, 1],), [(wire.END, 1)], {1}], ids=repr)
def test_extensions_in_place_of_arrays_are_no_frames(message: Any) -> None:
    with pytest.raises(ProtocolError):
        read(codec.encode(message))


@settings(max_examples=400)
@given(st.binary(max_size=40))
def test_arbitrary_bytes_are_frames_or_an_error_of_ours(data: bytes) -> None:
    try:
        frames = read(data)
    except (ProtocolError, CodecError):
        return

    assert all(frame[0] in range(7) for frame in frames)


@given(frames_of(FROM_CLIENT).filter(bool), st.data())
def test_a_message_that_is_cut_short_is_a_codec_error(frames: list[list[Any]], data: st.DataObject) -> None:
    whole = pack(frames, tagged=True)

    with pytest.raises(CodecError):
        read(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_items_that_nest_too_deeply_are_an_error_of_their_exchange_alone() -> None:
    item: Any = 1
    for _ in range(20):
        item = [item]

    fine, (kind, number, error) = read(pack([[wire.END, 2], [wire.ITEMS, 1, [item]]], tagged=True))

    assert fine == [wire.END, 2]
    assert (kind, number) == (wire.UNREADABLE, 1)
    assert "nest deeper" in str(error)


@pytest.mark.parametrize("data", [b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff" + b"\x80" * 65535, b"\x92\x91\x01\xc1"])
def test_a_message_that_is_no_array_of_frames_is_an_error_of_its_connection(data: bytes) -> None:
    with pytest.raises((CodecError, ProtocolError)):
        read(data)


@pytest.mark.parametrize("tagged", [True, False])
def test_a_value_that_cannot_travel_is_a_codec_error(tagged: bool) -> None:
    circle: list[Any] = []
    circle.append(circle)

    for value in (object(), lambda: 1, circle, "\ud800"):
        with pytest.raises(CodecError):
            pack([[wire.REPLY, 1, value]], tagged=tagged)


def test_a_truth_value_is_no_number() -> None:
    with pytest.raises(ProtocolError):
        read(msgpack.packb([[wire.CREDIT, True, True]]))
    assert read(msgpack.packb([[wire.ASK, 1, "x", True]])) == [[wire.ASK, 1, "x", True]]


# Outbox


class Turn:
    """An outbox and what it wrote; `end` runs what was put off to the end of the turn."""

    def __init__(self) -> None:
        self.later: list[Any] = []
        self.written: list[bytes] = []
        self.outbox = Outbox(self.written.append, self.later.append)

    def end(self) -> list[list[list[Any]]]:
        for call in self.later:
            call()
        self.later.clear()
        return [read(data, from_client=False) for data in self.written]


def test_all_frames_of_one_turn_leave_as_one_message_in_order() -> None:
    turn = Turn()
    for number in range(5):
        turn.outbox.put([wire.REPLY, number, None])

    assert turn.written == []
    assert len(turn.later) == 1, "one call at the end of the turn, not one per frame"
    assert turn.end() == [[[wire.REPLY, number, None] for number in range(5)]]


def test_the_next_turn_is_a_message_of_its_own() -> None:
    turn = Turn()
    turn.outbox.put([wire.REPLY, 1, None])
    turn.end()
    turn.outbox.put([wire.REPLY, 2, None])

    assert turn.end() == [[[wire.REPLY, 1, None]], [[wire.REPLY, 2, None]]]


def test_flushing_by_hand_leaves_nothing_for_the_end_of_the_turn() -> None:
    turn = Turn()
    turn.outbox.put([wire.REPLY, 1, None])
    turn.outbox.flush()

    assert turn.end() == [[[wire.REPLY, 1, None]]]


@pytest.mark.parametrize("tagged", [True, False])
def test_a_reply_that_cannot_travel_becomes_an_error_and_harms_no_other(tagged: bool) -> None:
    turn = Turn()
    turn.outbox.tagged = tagged
    turn.outbox.put([wire.REPLY, 1, "good"])
    turn.outbox.put([wire.REPLY, 2, object()])
    turn.outbox.put([wire.REPLY, 3, "good"])

    [[first, second, third]] = turn.end()

    assert first == [wire.REPLY, 1, "good"]
    assert second[:2] == [wire.ERROR, 2]
    assert second[2]["type"] == "CodecError"
    assert third == [wire.REPLY, 3, "good"]
