"""A progress reporter that records what the trainer reports and returns scripted commands."""

from collections.abc import Callable

from windlass.domain.reports import CheckpointItem, CheckpointPrunedItem, Command, PhasesItem


class RecordingReporter:
    """Records everything; ``at`` maps steps to the command in force from that step on."""

    def __init__(self, at: dict[int, Command] | None = None, *, fenced_at: int | None = None) -> None:
        self.points: list[tuple[str, int, float]] = []
        self.events: list[tuple[str, dict[str, object]]] = []
        self.checkpoints: list[CheckpointItem] = []
        self.pruned: list[CheckpointPrunedItem] = []
        self.items: list[CheckpointItem | CheckpointPrunedItem | PhasesItem] = []
        self.acknowledges = True
        self.on_point: Callable[[str, int], None] = lambda _name, _step: None
        self._at, self._fenced_at = at or {}, fenced_at
        self._step = 0

    @property
    def command(self) -> Command:
        """The command in force at the current step."""
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

    def event(self, code: str, message: str, **context: object) -> None:
        """Record an event."""
        assert message
        self.events.append((code, context))

    def put(self, item: CheckpointItem | CheckpointPrunedItem | PhasesItem) -> int:
        """Record a checkpoint, its deletion, or the phases."""
        self.items.append(item)
        if isinstance(item, CheckpointItem):
            self.checkpoints.append(item)
        elif isinstance(item, CheckpointPrunedItem):
            self.pruned.append(item)
        return len(self.items)

    @property
    def acknowledged(self) -> int:
        """All items, or none if ``acknowledges`` is false."""
        return len(self.items) if self.acknowledges else 0

    def series(self, name: str) -> dict[int, float]:
        """Return a series; asserts that no step was reported twice."""
        points = [(step, value) for series, step, value in self.points if series == name]
        assert len(points) == len(dict(points)), f"{name} has a step twice"
        return dict(points)

    def codes(self) -> list[str]:
        """Return the codes of the events."""
        return [code for code, _ in self.events]
