"""A job's log, read in pieces: whole characters, and no more bytes from the store than were asked for."""

from typing import Any, BinaryIO, Self

import pytest
from tests.fakes.house import House

from windlass.storage.local import LocalObjectStore

WORDS = "ab✓x, naïve 😀 end"


def spoken(house: House, *lines: str) -> str:
    """Return the path of the log of a job that has said these lines, each in a report of its own."""
    job = house.submit("ours", key="k")
    house.turn(2)
    run = house.run_of(job)
    run.claim()
    for line in lines:
        assert run.report(1, {"type": "log", "text": line}).status_code == 200
    return f"/v1/projects/ours/jobs/{job['id']}/logs"


@pytest.mark.parametrize("limit", [4, 5, 7, 64])
def test_pieces_of_a_log_end_between_characters_and_make_the_whole(ready: House, limit: int) -> None:
    url = spoken(ready, WORDS, WORDS)
    whole = ready.client.get(url).content
    pieces: list[bytes] = []
    at = 0
    while at < len(whole):
        reply = ready.client.get(url, params={"offset": at, "limit": limit})
        reply.content.decode()  # raises within a character
        assert limit - 3 <= len(reply.content) <= limit or at + len(reply.content) == len(whole)
        pieces.append(reply.content)
        at = int(reply.headers["windlass-next-offset"])
    assert b"".join(pieces) == whole


def test_a_character_that_ends_at_the_limit_stays(ready: House) -> None:
    url = spoken(ready, WORDS)
    whole = ready.client.get(url).content
    end = whole.index("✓".encode()) + 3
    assert ready.client.get(url, params={"offset": end - 5, "limit": 5}).content == "ab✓".encode()


def test_a_small_request_reads_little(ready: House, monkeypatch: pytest.MonkeyPatch) -> None:
    url = spoken(ready, *["x" * 100_000] * 5)
    taken: list[int] = []
    opened = LocalObjectStore.open

    def counting(self: LocalObjectStore, key: str) -> BinaryIO:
        stream: Any = opened(self, key)
        taken.append(0)

        class Counted:
            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                stream.close()

            def seek(self, at: int) -> None:
                stream.seek(at)

            def read(self, size: int = -1) -> bytes:
                data: bytes = stream.read(size)
                taken[-1] += len(data)
                return data

        return Counted()  # type: ignore[return-value]  # as much of a stream as the log needs

    monkeypatch.setattr(LocalObjectStore, "open", counting)
    assert len(ready.client.get(url, params={"offset": 10, "limit": 1000}).content) == 1000
    assert taken == [1000]
