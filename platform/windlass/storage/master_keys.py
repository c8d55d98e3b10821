"""Master keys in a file, such as a mounted Secret."""

import base64
import binascii
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from windlass.domain.errors import InvalidError, UnavailableError

_KEY_BYTES = 32
_NONCE_BYTES = 12
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class FileMasterKeys:
    """``ports.MasterKeys`` by AES-256-GCM. The id of the project is authenticated with each wrapped key."""

    current: str
    _keys: dict[str, bytes] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the keys, one ``<name>:<base64 of 32 bytes>`` a line; the first one is the current one.

        Raises:
            InvalidError: the file cannot be read, or a line is malformed; the message never has a key.
        """
        try:
            lines = [line.strip() for line in path.read_text("ascii").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise _invalid(path, f"it cannot be read: {type(error).__name__}") from error
        keys: dict[str, bytes] = {}
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            name, _, text = line.partition(":")
            if not _NAME.fullmatch(name) or name in keys:
                raise _invalid(path, f"line {number} does not begin with a new name and a colon")
            keys[name] = _decoded(path, number, text)
        if not keys:
            raise _invalid(path, "it has no key")
        return cls(next(iter(keys)), keys)

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(name for name in self._keys if name != self.current)

    def wrap(self, data_key: bytes, project: str) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(self._keys[self.current]).encrypt(nonce, data_key, project.encode())
        return base64.b64encode(nonce + sealed).decode()

    def unwrap(self, master_key: str, wrapped: str, project: str) -> bytes:
        if master_key not in self._keys:
            raise UnavailableError(
                f"the data key of project {project} needs master key {master_key}, which this server does not have",
                hint="add it to the file of the master keys",
            )
        content = base64.b64decode(wrapped)
        try:
            return AESGCM(self._keys[master_key]).decrypt(
                content[:_NONCE_BYTES], content[_NONCE_BYTES:], project.encode()
            )
        except InvalidTag as error:
            raise UnavailableError(
                f"the data key of project {project} cannot be unwrapped: another master key has the name {master_key}",
                hint="restore the file of the master keys",
            ) from error


def _decoded(path: Path, number: int, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise _invalid(path, f"line {number} has no base64") from error
    if len(key) != _KEY_BYTES:
        raise _invalid(path, f"the key in line {number} has {len(key)} bytes, not {_KEY_BYTES}")
    return key


def _invalid(path: Path, problem: str) -> InvalidError:
    return InvalidError(
        f"the file of the master keys {path} is not valid: {problem}",
        hint="each line is <name>:<32 random bytes in base64>, for instance of `openssl rand -base64 32`",
    )
