"""``python -m tests.mutants``: run the mutants, print the survivors, and write a table.

Exit code 1: a survivor has no reason in ``survivors.toml``, an accepted survivor does not exist, or more than a tenth
of the mutants of a module survive.
"""

import argparse
import ast
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.mutants.collected import (
    BASELINE_SECONDS,
    KILLED,
    SURVIVED,
    TIMEOUT,
    BaselineError,
    Mutant,
    run_collected,
    timeouts,
)
from tests.mutants.fresh import preload, run_tests
from tests.mutants.operators import Mutation, mutate, mutations
from tests.mutants.processes import ForkedRun, run_forked
from tests.mutants.targets import ROOT, NamedMutant, Target, load_accepted, load_named, load_targets

MAX_SURVIVING = 0.1
_TABLE = ROOT / "build/mutants.md"


@dataclass
class Outcome:
    """The results of one module."""

    module: str
    results: Counter[str] = field(default_factory=Counter)
    survivors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    """CPU time."""


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    accepted = {each.mutant: each.reason for each in load_accepted()}
    targets = [each for each in load_targets() if not options.module or each.module in options.module]
    outcomes, problems = [], []
    for target in targets:
        outcome = _run_target(target, options)
        outcomes.append(outcome)
        problems += [f"survived without a reason: {name}" for name in outcome.survivors if name not in accepted]
        existing = {mutant_name(target, each) for each in mutations(target.source)}
        for name in accepted:
            if name.startswith(f"{target.module}:") and name not in existing:
                problems.append(f"accepted, but there is no such mutant: {name}")
        total, survived = outcome.results.total(), outcome.results[SURVIVED]
        if survived > MAX_SURVIVING * total:
            problems.append(f"{survived} of {total} mutants of {target.module} survive, more than {MAX_SURVIVING:.0%}")
    table = _table(outcomes)
    _TABLE.parent.mkdir(exist_ok=True)
    _TABLE.write_text(table, encoding="utf-8")
    _say(table)
    _say("\n".join(problems))
    return 1 if problems else 0


def mutant_name(target: Target, mutation: Mutation) -> str:
    """Return the identity of a mutant, which does not depend on its line."""
    return f"{target.module}:{mutation.scope}: {mutation.change}"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutants", description="Run mutation tests.")
    parser.add_argument("module", nargs="*", help="modules of targets.toml; default: all")
    parser.add_argument("--sample", type=int, help="run this number of mutants per module, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--named", action="store_true", help="run only the named mutants")
    parser.add_argument("--parallel", type=int, default=os.cpu_count() or 1, help="processes at a time")
    return parser.parse_args(arguments)


def _run_target(target: Target, options: argparse.Namespace) -> Outcome:
    """Run the mutants of one module in processes of their own, so that this one never imports the project's modules."""
    outcome, mutants = Outcome(target.module), list(_select(target, options))
    if not mutants:
        return outcome
    used = _cpu_seconds()
    passed = []
    try:
        for mutant, result in run_collected(target, mutants, options.parallel):
            if result == SURVIVED:
                passed.append(mutant)
            else:
                outcome.results[result] += 1
    except BaselineError as error:
        sys.exit(f"the tests of {target.module} fail without a mutation:\n{str(error)[-3000:]}")
    for name, result in _run_fresh(target, passed, options.parallel):
        outcome.results[result] += 1
        if result == SURVIVED:
            outcome.survivors.append(name)
            _say(f"survived: {name}")
    outcome.seconds = _cpu_seconds() - used
    _say(_row(outcome))
    return outcome


def _run_fresh(target: Target, mutants: Sequence[Mutant], parallel: int) -> Iterator[tuple[str, str]]:
    """Import the mutants that have passed the selected tests, and run all tests of the module."""
    if not mutants:
        return
    preload(target)
    original = compile(target.source, str(target.path), "exec")
    began, used = time.monotonic(), _cpu_seconds()
    baseline = ForkedRun("original", partial(run_tests, target, original), BASELINE_SECONDS, BASELINE_SECONDS)
    [ended] = run_forked([baseline], 1)
    if ended.exit_code:
        sys.exit(f"the tests of {target.module} fail without a mutation:\n{ended.log[-3000:]}")
    limits = timeouts(time.monotonic() - began, _cpu_seconds() - used, parallel)
    tasks = (ForkedRun(mutant.name, partial(run_tests, target, mutant.code), *limits) for mutant in mutants)
    for ended in run_forked(tasks, parallel):
        yield ended.task.name, {None: TIMEOUT, 0: SURVIVED}.get(ended.exit_code, KILLED)


def _cpu_seconds() -> float:
    """Return the CPU time of this process and its ended children."""
    return sum(os.times()[:4])


def _select(target: Target, options: argparse.Namespace) -> Iterator[Mutant]:
    """Yield every mutant to run."""
    path = str(target.path)
    for named in load_named():
        if named.module == target.module:
            code = compile(compile_named(target, named), path, "exec")
            yield Mutant(f"{target.module}: {named.name}", code, _lines_of(target, named))
    if options.named:
        return
    found = mutations(target.source)
    if options.sample is not None and options.sample < len(found):
        found = random.Random(options.seed).sample(found, options.sample)
    for each in found:
        code = compile(mutate(target.source, each, path), path, "exec")
        yield Mutant(mutant_name(target, each), code, each.lines)


def compile_named(target: Target, mutant: NamedMutant) -> ast.Module:
    """Return the syntax tree of a named mutant."""
    assert target.source.count(mutant.old) == 1, f"{mutant.name}: {mutant.old!r} is not in {target.module}"
    return ast.parse(target.source.replace(mutant.old, mutant.new), str(target.path))


def _lines_of(target: Target, mutant: NamedMutant) -> range:
    first = target.source[: target.source.index(mutant.old)].count("\n") + 1
    return range(first, first + mutant.old.count("\n") + 1)


_HEADER = """\
| module | mutants | killed | timeout | survived | CPU seconds |
| --- | ---: | ---: | ---: | ---: | ---: |
"""


def _row(outcome: Outcome) -> str:
    counts = outcome.results
    cells = (counts.total(), counts[KILLED], counts[TIMEOUT], counts[SURVIVED], round(outcome.seconds))
    return f"| `{outcome.module}` | {' | '.join(map(str, cells))} |"


def _table(outcomes: Sequence[Outcome]) -> str:
    total = Outcome("total", sum((each.results for each in outcomes), Counter()))
    total.seconds = sum(each.seconds for each in outcomes)
    return _HEADER + "\n".join(map(_row, (*outcomes, total))).replace("`total`", "total") + "\n"


def _say(text: str) -> None:
    if text:
        print(text, flush=True)  # noqa: T201 - the report of the command


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
