"""``make margins``: how far the results that tests require are from their limits.

Floating-point results differ with the instruction set, the number of threads and the seed. A test whose margin is
negative for one of them fails on some machine.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

INSTRUCTION_SETS = ("SSE41", "AVX2", "AVX512_CORE")
THREADS = (1, 2)
SEEDS = (0, 1, 2)
_CHILD = "--child"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make margins", description="Measure the margins of the learning tests.")
    parser.add_argument("--sets", nargs="+", default=INSTRUCTION_SETS, help="values of DNNL_MAX_CPU_ISA")
    parser.add_argument("--threads", nargs="+", type=int, default=THREADS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument(_CHILD, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        return _measure(options.child, options.threads[0], options.seeds)
    failed = 0
    for instructions, threads in itertools.product(options.sets, options.threads):
        environment = os.environ | {"DNNL_MAX_CPU_ISA": instructions, "OMP_NUM_THREADS": str(threads)}
        argv = [sys.executable, "-m", "tests.bench.margins", _CHILD, instructions, "--threads", str(threads)]
        failed |= subprocess.run([*argv, "--seeds", *map(str, options.seeds)], env=environment, check=False).returncode
    return failed


def _measure(instructions: str, threads: int, seeds: Sequence[int]) -> int:
    """Train every job with every seed in this process, whose instruction set is fixed; 1 when a limit is missed."""
    import torch
    from tests.factories.learning_jobs import CHATS, CLASSIFIERS
    from tests.factories.training_runs import make_run
    from tests.fakes.recording_reporter import RecordingReporter

    from windlass.domain.reports import AcquireAttemptReply
    from windlass.storage.file_transfer import FileTransfer
    from windlass_pipelines.train.attempt import AttemptRun
    from windlass_pipelines.train.distributed import DistributedContext

    torch.set_num_threads(threads)
    missed = 0
    for job, seed in itertools.product((*CLASSIFIERS, *CHATS), seeds):
        with tempfile.TemporaryDirectory() as root:
            acquired = AcquireAttemptReply(attempt=1, heartbeat_timeout_seconds=30)
            environment, reporter = make_run(Path(root), job.spec(seed)), RecordingReporter()
            result = AttemptRun(
                environment, acquired, DistributedContext(), reporter, FileTransfer(), lambda module: module
            ).run()
        margins = job.margins(result.evaluation or {})
        missed |= any(margin < 0 for margin in margins.values())
        text = "  ".join(f"{name} {margin:+.4f}" for name, margin in margins.items())
        print(f"{instructions:12} threads {threads}  seed {seed}  {job.name:18} {text}", flush=True)  # noqa: T201 - the report
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
