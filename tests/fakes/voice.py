"""Where a training loop's reports end up in tests, and which command it hears when."""

from collections.abc import Callable

from windlass.domain.reports import CheckpointItem, Command


class RecordingVoice:
    """Records everything; ``at`` gives the command from a step on, as if a reply had brought it."""

    def __init__(self, at: dict[int, Command] | None = None, *, fenced_at: int | None = None) -> None:
        self.points: list[tuple[str, int, float]] = []
        self.events: list[tuple[str, dict[str, object]]] = []
        self.checkpoints: list[CheckpointItem] = []
        self.hears = True
        self.on_point: Callable[[str, int], None] = lambda _name, _step: None
        self._at, self._fenced_at = at or {}, fenced_at
        self._step = 0

    @property
    def command(self) -> Command:
        """The newest command that is due."""
        due = [command for step, command in sorted(self._at.items()) if step <= self._step]
        return due[-1] if due else Command.CONTINUE

    @property
    def fenced(self) -> bool:
        """Whether the fence was lost."""
        return self._fenced_at is not None and self._step >= self._fenced_at

    def metric(self, name: str, step: int, value: float) -> None:
        """Record a point."""
        self._step = max(self._step, step)
        self.points.append((name, step, value))
        self.on_point(name, step)

    def event(self, code: str, message: str, **facts: object) -> None:
        """Record an event."""
        assert message
        self.events.append((code, facts))

    def put(self, item: CheckpointItem) -> int:
        """Record a checkpoint."""
        self.checkpoints.append(item)
        return len(self.checkpoints)

    @property
    def acknowledged(self) -> int:
        """Everything is heard, unless ``hears`` is false."""
        return len(self.checkpoints) if self.hears else 0

    def series(self, name: str) -> dict[int, float]:
        """Return a series; a step that came twice is an error."""
        found = [(step, value) for series, step, value in self.points if series == name]
        assert len(found) == len(dict(found)), f"{name} has a step twice"
        return dict(found)

    def codes(self) -> list[str]:
        """Return the codes of the events."""
        return [code for code, _ in self.events]
