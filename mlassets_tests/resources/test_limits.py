"""A step that takes too long or needs too much is stopped, and nobody else is."""

import threading
import time
from contextlib import suppress

import pytest

from resources.limits import BadLimit, StepLimitExceeded, limited, parse_memory


def work_for_ever() -> None:
    while True:
        with suppress(Exception):
            time.sleep(0.001)


def grow_for_ever(kept: list[bytearray]) -> None:
    while True:
        kept.append(bytearray(1_000_000))
        time.sleep(0.001)


def swallow_everything() -> None:
    with suppress(BaseException):
        work_for_ever()


def test_a_step_stops_at_its_time_limit_even_if_it_swallows_errors() -> None:
    with (
        pytest.raises(
            StepLimitExceeded, match=r"late-flights\|EWR model was stopped after .* limit is 0\.2 s"
        ),
        limited(seconds=0.2, what="late-flights|EWR model"),
    ):
        work_for_ever()


def test_a_step_stops_at_its_memory_limit() -> None:
    kept: list[bytearray] = []
    says = r"needed .* MB of memory: its limit is 50 MB"
    with pytest.raises(StepLimitExceeded, match=says), limited(memory="50MB", what="step"):
        grow_for_ever(kept)
    assert len(kept) < 2000


def test_a_step_that_swallows_the_interrupt_itself_has_still_failed() -> None:
    with pytest.raises(StepLimitExceeded), limited(seconds=0.1, what="step"):
        swallow_everything()


def test_a_step_within_its_limits_is_left_alone_and_its_own_errors_pass() -> None:
    with limited(seconds=60, memory="1TB", what="step"):
        value = 1
    assert value == 1
    with pytest.raises(KeyError), limited(seconds=60, what="step"):
        raise KeyError


def test_nothing_strikes_after_the_block_has_ended() -> None:
    stopped = 0
    for attempt in range(30):
        try:
            with limited(seconds=0.05, what="step"):
                end = time.monotonic() + 0.085 + attempt / 1000
                while time.monotonic() < end:
                    pass
        except StepLimitExceeded:
            stopped += 1
        for _ in range(1000):
            pass
    assert stopped
    time.sleep(0.7)


def test_limits_nest_and_each_speaks_for_itself() -> None:
    outer, inner = limited(seconds=0.2, what="outer"), limited(seconds=60, what="inner")
    with pytest.raises(StepLimitExceeded, match="outer"), outer, inner:
        work_for_ever()
    with limited(seconds=60, what="outer"):
        with pytest.raises(StepLimitExceeded, match="inner"), limited(seconds=0.2, what="inner"):
            work_for_ever()
        time.sleep(0.6)


def test_the_thread_that_entered_is_stopped_and_no_other() -> None:
    caught: list[str] = []

    def run() -> None:
        try:
            with limited(seconds=0.2, what="in a thread"):
                work_for_ever()
        except StepLimitExceeded as error:
            caught.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert len(caught) == 1


@pytest.mark.parametrize("text", ["lots", "-1GB", "0", "1 XB", ""])
def test_an_amount_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadLimit, match="2GB"):
        parse_memory(text)


def test_amounts_are_understood() -> None:
    assert [parse_memory(text) for text in ("1", "1kB", "1.5 GB", "2GiB", "3m", 7)] == [
        1, 1000, 1_500_000_000, 2 * 2**30, 3_000_000, 7
    ]  # fmt: skip
    with pytest.raises(BadLimit):
        limited(seconds=0, what="step")
