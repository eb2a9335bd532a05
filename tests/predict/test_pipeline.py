"""Stages side by side: order, errors and bounded memory."""

import threading

import pytest

from bts_auto.predict.pipeline import staged


def collect(items, begin=lambda item: item, work=lambda item, begun: begun, end=lambda item, worked: None):
    return list(staged(items, begin, work, end))


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_every_item_comes_out_in_order(n):
    seen = []
    outcome = collect(range(n), lambda i: 10 * i, lambda i, b: b + i, lambda i, w: seen.append((i, w)))
    assert outcome == [(i, None) for i in range(n)]
    assert seen == [(i, 11 * i) for i in range(n)]


@pytest.mark.parametrize("stage", ["begin", "work", "end"])
def test_an_error_stays_with_its_item(stage):
    def fail_at_1(item, value=None):
        if item == 1:
            raise ValueError(stage)
        return value

    outcome = collect(range(3), **{stage: fail_at_1})
    assert [item for item, _ in outcome] == [0, 1, 2]
    assert [str(error) for _, error in outcome] == ["None", stage, "None"]


def test_at_most_three_items_are_under_way():
    lock, under_way, most = threading.Lock(), set(), []

    def begin(item):
        with lock:
            under_way.add(item)
            most.append(len(under_way))

    def end(item, worked):
        with lock:
            under_way.discard(item)

    collect(range(20), begin=begin, end=end)
    assert max(most) <= 3


def test_one_item_stays_in_the_callers_thread():
    threads = []
    collect([1], begin=lambda item: threads.append(threading.current_thread()))
    assert threads == [threading.main_thread()]
