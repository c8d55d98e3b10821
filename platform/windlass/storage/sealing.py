"""The format of encrypted objects: chunks, so that a range can be read alone and a stream needs no disk (ADR 0067).

An object is a header (4 bytes of magic, 32 of salt) and chunks of 64 KiB, each sealed by AES-256-GCM with a tag of 16
bytes. The secret of an object is derived from the data key of its project and its key in the store, so an object that
was copied to another key cannot be opened. The key of the chunks is derived from the secret and the salt. A nonce has
the number of its chunk and whether it is the last one, so chunks cannot be dropped, repeated or exchanged.
"""

import os
from typing import BinaryIO, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from windlass.domain.errors import ChecksumMismatchError

CHUNK_BYTES: Final = 1 << 16
_MAGIC: Final = b"WLS1"
_SALT_BYTES: Final = 32
_TAG_BYTES: Final = 16
HEADER_BYTES: Final = len(_MAGIC) + _SALT_BYTES
_SEALED_CHUNK: Final = CHUNK_BYTES + _TAG_BYTES


def object_secret(data_key: bytes, key: str) -> bytes:
    """Return the key of one object, which opens no other one."""
    return _derive(data_key, b"", b"windlass object\0" + key.encode())


def sealed_length(length: int) -> int:
    """Return the stored length of an object of ``length`` bytes."""
    return HEADER_BYTES + length + _TAG_BYTES * max(1, -(-length // CHUNK_BYTES))


def plain_length(stored: int) -> int:
    """Return the length of an object by its stored length.

    Raises:
        ChecksumMismatchError: no sealed object has this length.
    """
    body = stored - HEADER_BYTES
    length = body - _TAG_BYTES * -(-body // _SEALED_CHUNK)
    if length < 0 or sealed_length(length) != stored:
        raise ChecksumMismatchError(f"an encrypted object has a length of {stored:,} bytes, which none can have")
    return length


def sealed_range(begin: int, end: int, length: int) -> tuple[int, int]:
    """Return the range of the stored bytes with the chunks that have the bytes ``begin`` to ``end`` of ``length``."""
    first, last = begin // CHUNK_BYTES, (end - 1) // CHUNK_BYTES
    return HEADER_BYTES + first * _SEALED_CHUNK, min(HEADER_BYTES + (last + 1) * _SEALED_CHUNK, sealed_length(length))


class ReadableBytes(Protocol):
    """The part of a binary stream that is needed."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, none at the end."""
        ...


class SealedSource:
    """A stream of the sealed form of another stream."""

    def __init__(self, source: ReadableBytes, secret: bytes) -> None:
        salt = os.urandom(_SALT_BYTES)
        self._cipher = _cipher(secret, salt)
        self._source, self._buffer = source, bytearray(_MAGIC + salt)
        self._next, self._number, self._ended = _read_chunk(source), 0, False

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, fewer than ``size`` only at the end."""
        while len(self._buffer) < size and not self._ended:
            chunk, self._next = self._next, _read_chunk(self._source)
            self._ended = not self._next
            self._buffer += self._cipher.encrypt(_nonce(self._number, last=self._ended), chunk, None)
            self._number += 1
        with memoryview(self._buffer) as buffered:
            data = bytes(buffered[:size])
        del self._buffer[:size]
        return data


class ChunkOpener:
    """Opens the chunks of one object of ``length`` plain bytes.

    Raises:
        ChecksumMismatchError: the header is not one of a sealed object.
    """

    def __init__(self, key: str, secret: bytes, header: bytes, length: int) -> None:
        if len(header) != HEADER_BYTES or not header.startswith(_MAGIC):
            raise ChecksumMismatchError(f"{key} is not encrypted as an object of its project must be")
        self._key, self._cipher = key, _cipher(secret, header[len(_MAGIC) :])
        self._last = max(0, (length - 1) // CHUNK_BYTES)

    def open(self, first: int, sealed: bytes) -> bytes:
        """Return the plain content of consecutive chunks, of which ``first`` is the number of the first one.

        Raises:
            ChecksumMismatchError: a chunk was changed, or the key is another one.
        """
        plain = bytearray()
        for number, start in enumerate(range(0, len(sealed), _SEALED_CHUNK), start=first):
            nonce = _nonce(number, last=number == self._last)
            try:
                plain += self._cipher.decrypt(nonce, sealed[start : start + _SEALED_CHUNK], None)
            except InvalidTag as error:
                raise ChecksumMismatchError(f"{self._key} cannot be decrypted: it was changed, or its key") from error
        return bytes(plain)


def open_sealed(source: BinaryIO, name: str, secret: bytes, stored: int, target: BinaryIO) -> None:
    """Append the plain content of a sealed object of ``stored`` bytes to a file.

    Raises:
        ChecksumMismatchError: the object was changed or cut, or the key is another one.
    """
    opener = ChunkOpener(name, secret, source.read(HEADER_BYTES), plain_length(stored))
    number = 0
    while sealed := source.read(_SEALED_CHUNK):
        target.write(opener.open(number, sealed))
        number += 1
    if number == 0:
        raise ChecksumMismatchError(f"{name} cannot be decrypted: it was cut")


def _read_chunk(source: ReadableBytes) -> bytes:
    chunk = source.read(CHUNK_BYTES)
    while chunk and len(chunk) < CHUNK_BYTES and (data := source.read(CHUNK_BYTES - len(chunk))):
        chunk += data
    return chunk


def _cipher(secret: bytes, salt: bytes) -> AESGCM:
    return AESGCM(_derive(secret, salt, b"windlass chunks"))


def _derive(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(key)


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
