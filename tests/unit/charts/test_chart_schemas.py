"""The values of each chart, their schema and their reference have the same keys."""

import pytest
from docs import helm_values
from tests.charts.schema import PIPELINES_VALUES, STACK_VALUES, WINDLASS, ChartValues

charts = pytest.mark.parametrize(
    "values", [WINDLASS, STACK_VALUES, PIPELINES_VALUES], ids=lambda values: values.chart.name
)


@charts
def test_the_schema_has_exactly_the_keys_of_the_values(values: ChartValues) -> None:
    assert len(values.schema_paths()) > 20
    assert values.schema_paths() == values.value_paths()


@charts
def test_every_value_is_documented(values: ChartValues) -> None:
    documented = {f".{value.path}" for value in helm_values.all_values(values.chart.name)}
    parts = {path for path in documented if any(each.startswith(f"{path}.") for each in documented)}
    undocumented = {path for path in values.value_paths() if path.rpartition(".")[0] in {"", *parts}} - documented
    assert undocumented == set()


@charts
def test_the_schema_refuses_unknown_keys_at_every_level(values: ChartValues) -> None:
    assert values.open_objects() == []
