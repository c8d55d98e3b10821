"""The queue: one turn at a time, pauses after failures, and nothing lost between a look and a write."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from windlass_operators.kinds import POOL, PROJECT
from windlass_operators.queue import Key, Queue

ONE, OTHER = Key(PROJECT, "one"), Key(POOL, "other")


def run(
    work: Callable[[Queue, Key], Awaitable[float | None]],
    script: Callable[[Queue], Awaitable[None]],
    *,
    workers: int = 2,
    failed: Callable[[Key, Exception], float | None] = lambda _key, _error: None,
    clock: Callable[[], float] = time.monotonic,
    spacing: float = 0.0,
) -> None:
    async def whole() -> None:
        async def turn(key: Key) -> float | None:
            return await work(queue, key)

        queue = Queue(turn, failed, workers, lambda: None, clock, spacing=spacing)
        loop = asyncio.create_task(queue.run())
        try:
            await asyncio.wait_for(script(queue), 10)
        finally:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop

    asyncio.run(whole())


async def becomes(true: Callable[[], bool]) -> None:
    """Wait until something is so, and a moment longer, for what should not follow."""
    while not true():  # noqa: ASYNC110 - what is waited for is plain state
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)


def test_many_wishes_for_one_resource_are_one_turn() -> None:
    turns: list[Key] = []
    now = 0.0

    async def work(_: Queue, key: Key) -> None:
        turns.append(key)

    async def script(queue: Queue) -> None:
        nonlocal now
        for _ in range(50):
            queue.add(ONE, 0.05)
        queue.add(OTHER)
        await becomes(lambda: turns == [OTHER])
        now = 1.0
        await becomes(lambda: len(turns) >= 2)

    run(work, script, clock=lambda: now)
    assert turns == [OTHER, ONE]


def test_a_change_during_a_turn_has_another_turn_afterwards_and_never_beside_it() -> None:
    busy = most = turns = 0
    done = asyncio.Event()

    async def work(queue: Queue, key: Key) -> None:
        nonlocal busy, most, turns
        busy, turns = busy + 1, turns + 1
        most = max(most, busy)
        if turns < 4:
            queue.add(key)
        else:
            done.set()
        await asyncio.sleep(0.02)
        busy -= 1

    async def script(queue: Queue) -> None:
        queue.add(ONE)
        await done.wait()
        await asyncio.sleep(0.1)

    run(work, script, workers=4)
    assert (turns, most) == (4, 1)


def test_a_failure_comes_back_after_a_pause_and_holds_nobody_up() -> None:
    turns: list[Key] = []
    done = asyncio.Event()

    async def work(_: Queue, key: Key) -> None:
        turns.append(key)
        if key == ONE and turns.count(ONE) == 1:
            raise RuntimeError("cannot")
        if key == ONE:
            done.set()

    async def script(queue: Queue) -> None:
        queue.add(ONE)
        queue.add(OTHER, 0.05)
        await done.wait()

    run(work, script, workers=1)
    assert turns == [ONE, OTHER, ONE]


def test_a_server_that_says_when_to_come_back_is_obeyed() -> None:
    moments: list[float] = []
    done = asyncio.Event()

    async def work(_: Queue, _key: Key) -> None:
        moments.append(asyncio.get_running_loop().time())
        if len(moments) == 1:
            raise RuntimeError("busy")
        done.set()

    async def script(queue: Queue) -> None:
        queue.add(ONE)
        await done.wait()

    run(work, script, failed=lambda _key, _error: 0.8)
    assert moments[1] - moments[0] >= 0.8


def test_a_resource_that_wants_another_look_gets_it() -> None:
    turns = 0

    async def work(_: Queue, _key: Key) -> float | None:
        nonlocal turns
        turns += 1
        return 0.01 if turns < 3 else None

    async def script(queue: Queue) -> None:
        queue.add(ONE)
        await becomes(lambda: turns >= 3)

    run(work, script)
    assert turns == 3


def test_a_first_change_has_its_turn_at_once_and_a_swarm_one_more_after_the_pause() -> None:
    turns: list[float] = []
    now = 100.0

    async def work(_: Queue, _key: Key) -> None:
        turns.append(now)

    async def script(queue: Queue) -> None:
        nonlocal now
        queue.wake(ONE)
        await becomes(lambda: len(turns) == 1)
        for step in range(5):
            now = 100.0 + step / 100
            queue.wake(ONE)
        await asyncio.sleep(0.05)
        assert turns == [100.0]
        now = 100.2
        queue.add(OTHER)
        await becomes(lambda: len(turns) == 3)
        now = 200.0
        queue.wake(ONE)
        await becomes(lambda: len(turns) == 4)

    run(work, script, clock=lambda: now, spacing=0.2)
    assert turns == [100.0, 100.2, 100.2, 200.0]
