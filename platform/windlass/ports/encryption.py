"""Keys of the encryption of files."""

from typing import Protocol


class MasterKeys(Protocol):
    """The keys that wrap data keys: in a file, or in a key management service that never shows them."""

    @property
    def current(self) -> str:
        """Name of the key that wraps new data keys."""
        ...

    @property
    def others(self) -> tuple[str, ...]:
        """Names of the keys that only unwrap."""
        ...

    def wrap(self, data_key: bytes, project: str) -> str:
        """Encrypt a data key with the current key, for this project only."""
        ...

    def unwrap(self, master_key: str, wrapped: str, project: str) -> bytes:
        """Decrypt a data key.

        Raises:
            UnavailableError: there is no master key of this name, or it is another one.
        """
        ...


class DataKeys(Protocol):
    """The data keys by which an object store encrypts."""

    def data_key(self, key: str) -> bytes | None:
        """Return the data key for an object; None: it is stored in clear.

        Raises:
            NotFoundError: its project does not exist, or was deleted with its key.
            UnavailableError: the key cannot be unwrapped now.
        """
        ...
