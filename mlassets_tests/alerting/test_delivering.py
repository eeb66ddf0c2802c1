"""Each channel is told of each alert once, whatever the others do; what could not be sent is sent later."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from mlassets.alerting import delivering
from mlassets.alerting.alerts import Alert, alert
from mlassets.alerting.channels import Channel, NotSent, channels_of
from mlassets.alerting.delivering import LONGEST_WAIT, ONE_BY_ONE, deliver, was_told
from mlassets_tests.alerting.receivers import hook
from mlassets_tests.processes import free_port

NOW = datetime(2026, 3, 1, 6, tzinfo=UTC)


def made(*numbers: int, project: str = "late") -> list[Alert]:
    return [
        alert(f"{project}/{number}", "blocked", project, f"alert {number}", "why", at=NOW)
        for number in numbers
    ]


class Unprobed(Channel):
    """A channel of a test's own."""

    def probe(self) -> None:
        pass


def minutes(count: float) -> datetime:
    return NOW + timedelta(minutes=count)


def test_what_was_told_is_not_told_again_and_what_is_new_is() -> None:
    with hook() as server:
        channels = channels_of([server.url])
        first = deliver(made(1, 2), channels, None, NOW)
        assert first.text == f"2 to webhook 127.0.0.1:{server.port}"
        second = deliver(made(1, 2), channels, first.memory, minutes(1))
        assert second.text == "nothing new"
        third = deliver(made(1, 2, 3), channels, second.memory, minutes(2))
    assert [one["title"] for one in server.posted] == ["alert 1", "alert 2", "alert 3"]
    assert all(was_told(one, channels, third.memory) for one in made(1, 2, 3))


def test_what_ends_and_comes_back_is_told_again_and_memory_shrinks() -> None:
    with hook() as server:
        channels = channels_of([server.url])
        full = deliver(made(*range(50)), channels, None, NOW)
        empty = deliver([], channels, full.memory, minutes(1))
        assert len(empty.memory) < 100 < len(full.memory)
        deliver(made(1), channels, empty.memory, minutes(2))
    assert [one["count"] for one in server.posted] == [50, 1]


def test_what_cannot_be_looked_at_is_not_forgotten() -> None:
    with hook() as server:
        channels = channels_of([server.url])
        both = [*made(1, project="a"), *made(1, project="b")]
        told = deliver(both, channels, None, NOW)
        blind = deliver(made(1, project="a"), channels, told.memory, minutes(1), seen={"a"})
        assert deliver(both, channels, blind.memory, minutes(2)).text == "nothing new"
        gone = deliver(made(1, project="a"), channels, blind.memory, minutes(3), seen={"a", "b"})
        assert deliver(both, channels, gone.memory, minutes(4)).sent == {channels[0].name: 1}


def test_more_than_a_handful_go_as_one_message() -> None:
    with hook() as server:
        channels = channels_of([server.url])
        deliver(made(*range(ONE_BY_ONE)), channels, None, NOW)
        deliver(made(*range(1000)), channels, None, NOW)
    assert [one["count"] for one in server.posted] == [1] * ONE_BY_ONE + [1000]


def test_a_dead_channel_holds_up_no_other_and_gets_its_own_later() -> None:
    port = free_port()
    with hook() as alive:
        channels = channels_of([f"http://127.0.0.1:{port}/", alive.url])
        first = deliver(made(1), channels, None, NOW)
        assert first.sent == {channels[0].name: 0, channels[1].name: 1}
        assert first.waiting == 1
        assert "refused" in first.text
        # Not before half a minute has passed, then after twice as long each time.
        again = deliver(made(1, 2), channels, first.memory, minutes(0.4))
        assert again.sent == {channels[1].name: 1}
        second = deliver(made(1, 2), channels, again.memory, minutes(0.6))
        assert len(second.troubles) == 1
        assert deliver(made(1, 2), channels, second.memory, minutes(1.5)).troubles == ()
    assert len(alive.posted) == 2


def test_a_channel_that_comes_back_is_told_what_is_still_open() -> None:
    with hook() as server:
        server.status = 503
        channels = channels_of([server.url])
        memory, now = None, NOW
        for _ in range(20):
            looked = deliver(made(1, 2), channels, memory, now)
            assert looked.troubles
            memory, now = looked.memory, now + LONGEST_WAIT
        server.status = 204
        back = deliver(made(2, 3), channels, memory, now)
    assert back.sent == {channels[0].name: 2}
    assert [one["title"] for one in server.posted] == ["alert 2", "alert 3"]


def test_a_clock_that_is_set_back_does_not_make_a_channel_wait_for_years() -> None:
    with hook() as server:
        server.status = 500
        channels = channels_of([server.url])
        looked = deliver(made(1), channels, None, NOW + timedelta(days=3650))
        server.status = 200
        assert deliver(made(1), channels, looked.memory, NOW).sent == {channels[0].name: 1}


def test_what_was_sent_before_a_failure_is_not_sent_again() -> None:
    class Second(Unprobed):
        name = "breaks at the second"

        def send(self, alerts: Sequence[Alert]) -> None:
            if alerts[0].title == "alert 2":
                raise NotSent("down")
            titles.append(alerts[0].title)

    titles: list[str] = []
    looked = deliver(made(1, 2, 3), [Second("x")], None, NOW)
    assert (looked.sent, looked.waiting) == ({Second.name: 1}, 2)
    deliver(made(1, 2, 3), [Second("x")], looked.memory, minutes(5))
    assert titles == ["alert 1"]


def test_a_channel_that_hangs_or_breaks_costs_bounded_time() -> None:
    class Breaks(Unprobed):
        name = "breaks"

        def send(self, alerts: Sequence[Alert]) -> None:
            raise RuntimeError("with a s3cret")

    with hook() as hangs, hook() as alive:
        hangs.status = 0
        channels = [*channels_of([hangs.url, alive.url]), Breaks("y")]
        looked = deliver(made(1), channels, None, NOW, seconds=0.3)
        assert len(alive.posted) == 1
    assert looked.waiting == 2
    assert "took more than 0.3 s (tried again in 30 seconds)" in looked.text
    assert "breaks: RuntimeError" in looked.text
    assert "s3cret" not in looked.text


@pytest.mark.parametrize(
    "memory", ["", "no json", "[]", '{"channels": {"x": {}}}', '{"channels": 1}', "null"]
)
def test_a_memory_that_cannot_be_read_means_that_nothing_was_told(memory: str) -> None:
    with hook() as server:
        assert deliver(made(1), channels_of([server.url]), memory, NOW).waiting == 0
    assert len(server.posted) == 1


def test_memory_forgets_channels_that_are_no_longer_set() -> None:
    with hook() as one, hook() as other:
        looked = deliver(made(*range(100)), channels_of([one.url]), None, NOW)
        looked = deliver(made(1), channels_of([other.url]), looked.memory, NOW)
    assert len(looked.memory) < 200
    assert delivering.deliver([], [], looked.memory, NOW).text == "nothing new"
