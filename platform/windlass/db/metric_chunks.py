"""Metric series, stored in chunks: one row holds up to ``_CHUNK_POINTS`` consecutive points of one series.

Steps and values are packed as little-endian 64-bit integers and floats. Reading a series of 200,000 points takes some
hundred rows, and appending a batch rewrites the last chunk of each of its series.

Each chunk also has its extremes: its ends, and the minimum and maximum of each of its parts. A series that is much
longer than what a reader wants is downsampled from them, so that a read costs a small part of the stored points.
"""

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Integer, and_, bindparam, case, delete, func, select
from sqlalchemy.engine import RowMapping

from windlass.db.dialect import insert_or_update
from windlass.db.repository import table_of
from windlass.db.row_scope import ScopedConnection
from windlass.db.tables import MetricChunkTable
from windlass.domain.records import MetricSample
from windlass.domain.series import MetricSeries, StepRange, downsample

_CHUNKS = table_of(MetricChunkTable)
_CHUNK_POINTS = 512
_EXTREMES = 34
"""Points of a whole chunk that are its extremes: two ends, and two of each 32 points."""
_READ_CHUNKS = 32


_SERIES = (_CHUNKS.c.job == bindparam("of_job"), _CHUNKS.c.name == bindparam("of_name"))
_PRECEDING = select(func.max(_CHUNKS.c.first_step)).where(*_SERIES, _CHUNKS.c.first_step <= bindparam("first"))
_START = func.coalesce(_PRECEDING.scalar_subquery(), bindparam("first", type_=Integer))
"""The first step of the chunk that contains or precedes a step; the step without such a chunk."""
_COVERING = select(_CHUNKS).where(*_SERIES, _CHUNKS.c.first_step >= _START, _CHUNKS.c.first_step <= bindparam("last"))
_CHUNKS_FROM = (
    select(_CHUNKS)
    .where(*_SERIES, _CHUNKS.c.first_step >= bindparam("position"))
    .order_by(_CHUNKS.c.first_step)
    .limit(_READ_CHUNKS)
)
_DELETE = delete(_CHUNKS).where(*_SERIES, _CHUNKS.c.first_step.in_(bindparam("first_steps", expanding=True)))


@cache
def _upsert(dialect: str) -> Any:
    """Return the statement that stores chunks in place of those with the same first step."""
    statement = insert_or_update(dialect, _CHUNKS)
    keys = {column.name for column in _CHUNKS.primary_key.columns}
    values = {column.name: column for column in statement.excluded if column.name not in keys}
    return statement.on_conflict_do_update(index_elements=sorted(keys), set_=values)


class _Point(NamedTuple):
    step: int
    value: float
    attempt: int


class MetricChunks:
    """The chunks of all jobs, on one connection. The caller checks the scope."""

    def __init__(self, connection: ScopedConnection) -> None:
        self._connection = connection

    def add(self, samples: Sequence[MetricSample]) -> None:
        """Store points; a stored point of the same step is replaced unless a newer attempt reported it."""
        by_series: dict[tuple[str, str], dict[int, _Point]] = {}
        for sample in samples:
            point = _Point(sample.step, sample.value, sample.attempt)
            _put_newest(by_series.setdefault((sample.job, sample.name), {}), point)
        for (job, name), points in by_series.items():
            self._merge(job, name, points)

    def _merge(self, job: str, name: str, points: Mapping[int, _Point]) -> None:
        """Merge points into the chunks that cover their steps, or into the chunk before them."""
        series = {"of_job": job, "of_name": name}
        merged: dict[int, _Point] = {}
        stored: set[int] = set()
        covering = series | {"first": min(points), "last": max(points)}
        for row in self._connection.execute(_COVERING, covering).mappings():
            stored.add(row["first_step"])
            merged.update((point.step, point) for point in _unpack(row))
        for point in points.values():
            _put_newest(merged, point)
        kept = self._put(job, name, [merged[step] for step in sorted(merged)])
        if replaced := stored - kept:
            self._connection.execute(_DELETE, series | {"first_steps": sorted(replaced)})

    def _put(self, job: str, name: str, points: Sequence[_Point]) -> set[int]:
        """Store chunks, and return their first steps; a chunk replaces the one with the same first step."""
        rows = [
            _pack(job, name, run[start : start + _CHUNK_POINTS])
            for _, of_attempt in groupby(points, lambda point: point.attempt)
            for run in [list(of_attempt)]
            for start in range(0, len(run), _CHUNK_POINTS)
        ]
        if rows:
            self._connection.execute(_upsert(self._connection.dialect.name), rows)
        return {row["first_step"] for row in rows}

    def drop_above(self, job: str, step: int) -> None:
        """Delete the points of all series after a step."""
        above = (_CHUNKS.c.job == job, _CHUNKS.c.last_step > step)
        partly = self._connection.execute(select(_CHUNKS).where(*above, _CHUNKS.c.first_step <= step)).mappings().all()
        self._connection.execute(delete(_CHUNKS).where(*above))
        for row in partly:
            self._put(job, row["name"], [point for point in _unpack(row) if point.step <= step])

    def series(self, job: str, names: Sequence[str], steps: StepRange, points: int) -> list[MetricSeries]:
        """Return the series of a job in a range of steps, each downsampled to ``points`` points."""
        conditions = [_CHUNKS.c.job == job, _CHUNKS.c.last_step > steps.after, _CHUNKS.c.first_step <= steps.through]
        if names:
            conditions.append(_CHUNKS.c.name.in_(names))
        lengths = select(_CHUNKS.c.name, func.sum(_CHUNKS.c.points)).where(*conditions).group_by(_CHUNKS.c.name)
        enough = points * _CHUNK_POINTS // _EXTREMES  # of a series so long, the extremes are as many as wanted
        long = [name for name, length in self._connection.execute(lengths) if length >= enough]
        inside = (_CHUNKS.c.first_step > steps.after, _CHUNKS.c.last_step <= steps.through)
        by_extremes = and_(_CHUNKS.c.name.in_(long), *inside)
        query = select(
            _CHUNKS.c.name,
            _CHUNKS.c.attempt,
            _CHUNKS.c.points,
            case((by_extremes, _CHUNKS.c.extreme_steps), else_=_CHUNKS.c.steps).label("steps"),
            case((by_extremes, _CHUNKS.c.extreme_values), else_=_CHUNKS.c["values"]).label("values"),
        )
        ordered = query.where(*conditions).order_by(_CHUNKS.c.name, _CHUNKS.c.first_step)
        chunks = groupby(self._connection.execute(ordered).mappings(), lambda row: str(row["name"]))
        found = [_series(name, rows, steps, points) for name, rows in chunks]
        return [series for series in found if series.total]

    def points(self, job: str, name: str, after: int, limit: int) -> list[MetricSample]:
        """Return at most ``limit`` points of a series after a step."""
        samples: list[MetricSample] = []
        series = {"of_job": job, "of_name": name}
        position = self._connection.execute(select(_START), series | {"first": after}).scalar_one()
        while len(samples) < limit:
            rows = self._connection.execute(_CHUNKS_FROM, series | {"position": position}).mappings().all()
            samples += [
                MetricSample(job=job, name=name, step=point.step, attempt=point.attempt, value=point.value)
                for row in rows
                for point in _unpack(row)
                if point.step > after
            ]
            if len(rows) < _READ_CHUNKS:
                break
            position = rows[-1]["last_step"] + 1
        return samples[:limit]


def _put_newest(points: dict[int, _Point], point: _Point) -> None:
    stored = points.get(point.step)
    if stored is None or stored.attempt <= point.attempt:
        points[point.step] = point


def _series(name: str, rows: Iterator[RowMapping], wanted: StepRange, limit: int) -> MetricSeries:
    """Return the series of chunks, of which the first may begin before the range, and the last end after it."""
    steps, values = array("q"), array("d")
    total = 0
    ends: list[int] = []
    attempts: list[int] = []
    for row in rows:
        chunk = _steps(row)
        start, end = bisect_right(chunk, wanted.after), bisect_right(chunk, wanted.through)
        steps += chunk[start:end]
        values += _values(row)[start:end]
        total += row["points"] - (len(chunk) - (end - start))
        ends.append(len(steps))
        attempts.append(row["attempt"])
    kept = downsample(values, limit)
    return MetricSeries(
        name=name,
        steps=[steps[index] for index in kept],
        values=[values[index] for index in kept],
        attempts=[attempts[bisect_right(ends, index)] for index in kept],
        total=total,
    )


def _pack(job: str, name: str, points: Sequence[_Point]) -> dict[str, Any]:
    extremes = [points[index] for index in downsample([point.value for point in points], _EXTREMES)]
    return {
        "job": job,
        "name": name,
        "first_step": points[0].step,
        "last_step": points[-1].step,
        "attempt": points[0].attempt,
        "points": len(points),
        "extreme_steps": _packed_steps(extremes),
        "extreme_values": _packed_values(extremes),
        "steps": _packed_steps(points),
        "values": _packed_values(points),
    }


def _packed_steps(points: Sequence[_Point]) -> bytes:
    return _little_endian(array("q", [point.step for point in points])).tobytes()


def _packed_values(points: Sequence[_Point]) -> bytes:
    return _little_endian(array("d", [point.value for point in points])).tobytes()


def _unpack(row: RowMapping) -> Iterator[_Point]:
    for step, value in zip(_steps(row), _values(row), strict=True):
        yield _Point(step, value, row["attempt"])


def _steps(row: RowMapping) -> "array[int]":
    steps = array("q")
    steps.frombytes(row["steps"])
    return _little_endian(steps)


def _values(row: RowMapping) -> "array[float]":
    values = array("d")
    values.frombytes(row["values"])
    return _little_endian(values)


def _little_endian(numbers: "array[Any]") -> "array[Any]":
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
