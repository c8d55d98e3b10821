"""``python -m windlass_pipelines.data REQUEST.json``: processes one DataRequest under resource limits.

The folder ``--work``, by default that of the request, is for temporary files and for ``result.json``. With
``--publish-result URI`` the result is also published there; when it is published already, nothing is done.

Exit status: 0 with a result, accepted or rejected; 2 for an invalid request; 70 for an internal error; 74 for an I/O
error. The output never contains dataset content.
"""

import argparse
import errno
import os
import shutil
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError

from windlass.domain.datasets import DataRequest
from windlass.domain.errors import NotFoundError, UnavailableError
from windlass.orchestration.task_result import is_published, publish_result
from windlass.storage.transfers import folder_transfer

# The libraries imported below read these at import. Threads and Arrow's own memory pool map far more address space
# than they use, and the address space is limited.
os.environ.update(
    ARROW_DEFAULT_MEMORY_POOL="system",
    OMP_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
    RAYON_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
)

from windlass_pipelines.data.limits import apply_limits, largest_file
from windlass_pipelines.data.processing import process

_EXIT_REQUEST, _EXIT_SOFTWARE, _EXIT_IO = 2, 70, 74


def main(arguments: list[str]) -> int:
    """Process one request and return the exit status."""
    parser = argparse.ArgumentParser(prog="windlass_pipelines.data", description=__doc__)
    parser.add_argument("request", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--publish-result", metavar="URI", default="")
    options = parser.parse_args(arguments)
    work: Path = (options.work or options.request.parent).resolve()
    try:
        request = DataRequest.model_validate_json(options.request.read_bytes())
        os.chdir(work)
    except (OSError, ValidationError) as error:
        print(f"cannot read the request: {type(error).__name__}", file=sys.stderr)  # noqa: T201 - a program
        return _EXIT_REQUEST
    free_bytes = max(0, shutil.disk_usage(work).free - request.min_free_disk_bytes)
    apply_limits(min(largest_file(request.max_bytes), free_bytes))
    try:
        _process(request, work, options.publish_result)
    except (NotFoundError, UnavailableError) as error:
        print(f"cannot read or write: {error.message}", file=sys.stderr)  # noqa: T201 - a program
        return _EXIT_IO
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if error.errno in (errno.ENOSPC, errno.EFBIG):
            reason = f"no space left: {free_bytes >> 20} MiB were available"
        print(f"cannot read or write: {reason}", file=sys.stderr)  # noqa: T201 - a program
        return _EXIT_IO
    except Exception as error:  # noqa: BLE001 - an exception's message may contain rows
        frames = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)[-4:]))
        print(f"{frames}{type(error).__name__}", file=sys.stderr)  # noqa: T201 - a program
        return _EXIT_SOFTWARE
    return 0


def _process(request: DataRequest, work: Path, result: str) -> None:
    transfer = folder_transfer()
    if result and is_published(result, work, transfer):
        return  # its version may be in use by now
    process(request, work, transfer)
    if result:
        publish_result(work, result, transfer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
