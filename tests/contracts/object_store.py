"""The contract of every ``ports.ObjectStore``."""

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from io import SEEK_END, BytesIO

import pytest

from windlass.domain.artifacts import FileEntry
from windlass.domain.errors import ConflictError, InvalidError, NotFoundError, TooLargeError
from windlass.ports import ObjectStore

LIMIT = 1 << 40


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def read(store: ObjectStore, key: str) -> bytes:
    with store.open(key) as stream:
        return stream.read()


def append(store: ObjectStore, key: str, offset: int, data: bytes, limit: int = LIMIT) -> int | Exception:
    try:
        return store.append(key, offset, BytesIO(data), limit)
    except ConflictError as error:
        return error


class ObjectStoreContract:
    """Subclasses provide the fixture ``store``, an empty store."""

    @pytest.mark.parametrize("size", [0, 5, 5 << 20, (11 << 20) + 3])
    def test_an_object_is_read_as_it_was_stored(self, store: ObjectStore, size: int) -> None:
        data = content(size)
        entry = store.put("projects/p/file", BytesIO(data))
        assert entry == FileEntry(bytes=size, sha256=hashlib.sha256(data).hexdigest())
        assert (store.size("projects/p/file"), read(store, "projects/p/file")) == (size, data)

    def test_any_part_of_an_object_can_be_read(self, store: ObjectStore) -> None:
        data = content(3_000_001)
        store.put("a/file", BytesIO(data))
        with store.open("a/file") as stream:
            for position in (2_999_990, 0, 1_500_000, 131_071, 2_000_000):
                stream.seek(position)
                assert stream.read(300_000) == data[position : position + 300_000]
            assert stream.seek(-1, SEEK_END) == 3_000_000
            assert (stream.read(), stream.read()) == (data[-1:], b"")

    def test_an_object_is_never_replaced(self, store: ObjectStore) -> None:
        store.put("a/small", BytesIO(b"first"))
        store.put("a/large", BytesIO(content(11 << 20)))
        for key in ("a/small", "a/large"):
            for size in (6, 11 << 20):
                with pytest.raises(ConflictError, match="immutable"):
                    store.put(key, BytesIO(content(size, seed=2)))
        assert read(store, "a/small") == b"first"
        assert read(store, "a/large") == content(11 << 20)
        assert list(store.keys("a")) == ["a/large", "a/small"]

    def test_one_of_several_concurrent_writers_of_a_key_succeeds(self, store: ObjectStore) -> None:
        def put(number: int) -> bool:
            try:
                store.put("a/file", BytesIO(content(1000, number)))
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            succeeded = list(pool.map(put, range(8)))
        assert sum(succeeded) == 1
        assert read(store, "a/file") == content(1000, succeeded.index(True))

    def test_what_is_not_there_is_not_found(self, store: ObjectStore) -> None:
        store.put("a/b/c", BytesIO(b"x"))
        for key in ("a", "a/b", "a/b/d"):
            with pytest.raises(NotFoundError):
                store.open(key)
            assert store.size(key) == 0

    @pytest.mark.parametrize("key", ["", "/etc/passwd", "a/../b", "a//b", "a/b/", "a\nb"])
    def test_a_key_is_a_plain_relative_path(self, store: ObjectStore, key: str) -> None:
        for operation in (store.uri, store.open, store.size, lambda key: store.put(key, BytesIO())):
            with pytest.raises(ValueError, match="relative path"):
                operation(key)

    def test_a_staging_file_grows_at_its_end(self, store: ObjectStore) -> None:
        data, length = content(13 << 20), 0
        for end in (1000, 1001, 6 << 20, 13 << 20):
            length = store.append("up/0", length, BytesIO(data[length:end]), LIMIT)
            assert length == end == store.size("up/0")
        for offset in (0, length - 1, length + 1):
            with pytest.raises(ConflictError, match="were received") as refused:
                store.append("up/0", offset, BytesIO(b"x"), LIMIT)
            assert refused.value.context == {"received": length}
        assert read(store, "up/0") == data
        assert store.total_bytes("up") == length

    def test_a_staging_file_keeps_its_length_when_it_would_get_too_long(self, store: ObjectStore) -> None:
        store.append("up/0", 0, BytesIO(b"12345"), 10)
        with pytest.raises(TooLargeError):
            store.append("up/0", 5, BytesIO(content(12 << 20)), 11 << 20)
        assert read(store, "up/0") == b"12345"
        assert store.append("up/0", 5, BytesIO(b"67890"), 10) == 10

    def test_concurrent_appends_do_not_overlap(self, store: ObjectStore) -> None:
        expected = b""
        with ThreadPoolExecutor(6) as pool:
            for round_number in range(3):
                pieces = [content(1000 + number, seed=10 * round_number + number) for number in range(6)]
                offset = len(expected)
                results = list(pool.map(lambda piece, at=offset: append(store, "up/0", at, piece), pieces))
                winners = [piece for piece, result in zip(pieces, results, strict=True) if isinstance(result, int)]
                assert len(winners) == 1
                expected += winners[0]
        assert read(store, "up/0") == expected

    def test_concurrent_extensions_of_an_object_do_not_overlap(self, store: ObjectStore) -> None:
        lines = [f"line {number}\n".encode() * (number + 1) for number in range(40)]
        with ThreadPoolExecutor(8) as pool:
            places = list(pool.map(lambda line: store.extend("jobs/1/log", line), lines))
        for (key, position), line in zip(places, lines, strict=True):
            assert key == "jobs/1/log" or key.startswith("jobs/1/log/")
            with store.open(key) as stream:
                stream.seek(position)
                assert stream.read(len(line)) == line
        assert store.total_bytes("jobs/1") == sum(map(len, lines))

    def test_keys_are_listed_and_deleted_by_folder(self, store: ObjectStore) -> None:
        keys = ["jobs/1/artifacts/1/deep/f", "jobs/1/artifacts/1/manifest.json", "jobs/10/f", "jobs/1/log"]
        for key in keys:
            store.put(key, BytesIO(key.encode()))
        store.append("jobs/1/staged", 0, BytesIO(b"x"), LIMIT)
        assert list(store.keys("jobs/1/artifacts")) == keys[:2]
        assert list(store.keys("jobs/1/log")) == list(store.keys("nothing")) == []
        assert store.total_bytes("jobs/1/artifacts") == len(keys[0]) + len(keys[1])
        store.delete("jobs/1/log")
        store.delete("jobs/1/staged")
        assert list(store.keys("jobs/1")) == keys[:2]
        store.delete("jobs/1")
        store.delete("jobs/1")
        assert list(store.keys("jobs")) == ["jobs/10/f"]

    def test_many_keys_are_listed_in_order_and_deleted(self, store: ObjectStore) -> None:
        names = [f"many/{number:04}" for number in range(1203)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: store.put(name, BytesIO(b"1")), names))
        assert list(store.keys("many")) == names
        assert store.total_bytes("many") == len(names)
        store.delete("many")
        assert list(store.keys("many")) == []

    def test_a_uri_names_one_key(self, store: ObjectStore) -> None:
        for key in ("a", "a/b c/ü%20"):
            assert store.key(store.uri(key)) == key
        outside = store.uri("a").removesuffix("/a")
        for uri in ("s3://other-bucket/a", "file:///etc/passwd", "a", outside, f"{outside}x/a"):
            with pytest.raises(InvalidError, match="not in this object store"):
                store.key(uri)
