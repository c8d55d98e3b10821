"""Keys of encrypted stores."""

from dataclasses import dataclass

from windlass.ports import DataKeys


@dataclass
class FixedDataKeys:
    """``ports.DataKeys`` with one key for all objects."""

    key: bytes = b"k" * 32

    def data_key(self, key: str) -> bytes | None:
        del key
        return self.key


@dataclass
class LateDataKeys:
    """``ports.DataKeys`` of a control plane that is created after its object store."""

    keys: DataKeys | None = None

    def data_key(self, key: str) -> bytes | None:
        return None if self.keys is None else self.keys.data_key(key)
