"""``python -m windlass_pipelines.data REQUEST.json``: carries out one DataRequest under limits of its own.

Exit status: 0 when there is a result, accepted or rejected; 2 for a request that cannot be read; 70 when this
program fails; 74 when the disk does. What it prints never quotes the data.
"""

import errno
import os
import shutil
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError

from windlass.domain.datasets import DataRequest

# The libraries read these when they are imported below. Threads and Arrow's own pool map far more than they use,
# which the limit of the address space counts.
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
    """Run one request and return the exit status."""
    if len(arguments) != 1:
        print("usage: python -m windlass_pipelines.data REQUEST.json", file=sys.stderr)  # noqa: T201 - a program
        return _EXIT_REQUEST
    try:
        request = DataRequest.model_validate_json(Path(arguments[0]).read_bytes())
    except (OSError, ValidationError) as error:
        print(f"the request cannot be read: {type(error).__name__}", file=sys.stderr)  # noqa: T201 - a program
        return _EXIT_REQUEST
    disk = next(folder for folder in Path(request.output).resolve().parents if folder.exists())
    room = max(0, shutil.disk_usage(disk).free - request.reserve_bytes)
    apply_limits(min(largest_file(request.max_bytes), room))
    try:
        process(request)
    except OSError as error:
        said = error.strerror or type(error).__name__
        if error.errno in (errno.ENOSPC, errno.EFBIG):
            said = f"no space left: {room >> 20} MiB were free for it"
        print(f"cannot read or write: {said}", file=sys.stderr)  # noqa: T201 - a program
        return _EXIT_IO
    except Exception as error:  # noqa: BLE001 - the last resort; an exception's own message may quote rows
        frames = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)[-4:]))
        print(f"{frames}{type(error).__name__}", file=sys.stderr)  # noqa: T201 - a program
        return _EXIT_SOFTWARE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
