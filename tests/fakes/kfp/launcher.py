"""The entry point of a step pod of the fake server: runs the command of the step, then prints what it has reported.

It is passed to ``python3 -c`` with the command as arguments: Argo's emissary and KFP's launcher are also placed before
the command of a step. Signals go to all processes of the step.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

OUTPUT_FILE = "/tmp/kfp_outputs/output_metadata.json"  # noqa: S108 - in the pod of a step
OUTPUT_MARK = "output_metadata: "
FILES_MARK = "artifact_files: "


def main() -> int:
    """Return the exit code of the command."""
    process = subprocess.Popen(sys.argv[1:], start_new_session=True)
    signal.signal(signal.SIGTERM, lambda number, _frame: os.killpg(process.pid, number))
    code = process.wait()
    output = Path(OUTPUT_FILE)
    if output.exists():
        sys.stdout.write(f"\n{OUTPUT_MARK}{output.read_text()}\n{FILES_MARK}{json.dumps(_file_sizes())}\n")
    return code if code >= 0 else 128 - code


def _file_sizes() -> dict[str, int]:
    """Return the sizes of the files of artifacts, which KFP's launcher uploads, by name."""
    given = json.loads(sys.argv[sys.argv.index("--executor_input") + 1])
    sizes = {}
    for name, artifact in given["outputs"]["artifacts"].items():
        path = Path("/" + artifact["artifacts"][0]["uri"].replace("://", "/", 1))
        sizes[name] = path.stat().st_size if path.is_file() else 0
    return sizes


if __name__ == "__main__":
    sys.exit(main())
