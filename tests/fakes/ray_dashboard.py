"""The job API of Ray's dashboard for the heads on fake nodes, which run no container. Run as a program: a port.

It does what KubeRay asks of a head (ray-operator 1.6.2, ``dashboard_httpclient.go``): it runs the entrypoint of a job
as a process, reports its status, and stops it. It has no state per head: KubeRay chooses the id of each job.
"""

import json
import shlex
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JOBS = "/api/jobs/"
_STATUSES = {None: "RUNNING", 0: "SUCCEEDED"}


def _milliseconds() -> int:
    return int(time.time() * 1000)


@dataclass
class _Job:
    entrypoint: str
    process: "subprocess.Popen[bytes]"
    started: int = field(default_factory=_milliseconds)
    ended: int | None = None
    stopped: bool = False

    def details(self, job: str) -> dict[str, Any]:
        code = self.process.poll()
        if code is not None and self.ended is None:
            self.ended = _milliseconds()
        status = "STOPPED" if self.stopped and code is not None else _STATUSES.get(code, "FAILED")
        times = {"start_time": self.started} | ({} if self.ended is None else {"end_time": self.ended})
        return {"submission_id": job, "entrypoint": self.entrypoint, "status": status, "message": status, **times}


class _Handler(BaseHTTPRequestHandler):
    jobs: dict[str, _Job] = {}  # noqa: RUF012 - the handlers of all requests share them
    lock = threading.Lock()

    def do_GET(self) -> None:
        job = self.path.removeprefix(JOBS)
        with self.lock:
            found = self.jobs.get(job)
            if found is None:
                self._reply(HTTPStatus.NOT_FOUND, {})
            else:
                self._reply(HTTPStatus.OK, found.details(job))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.lock:
            if self.path == JOBS:
                request = json.loads(body)
                job, entrypoint = request["submission_id"], request["entrypoint"]
                if job not in self.jobs:
                    self.jobs[job] = _Job(entrypoint, subprocess.Popen(shlex.split(entrypoint)))
                self._reply(HTTPStatus.OK, {"job_id": job, "submission_id": job})
            else:
                job = self.path.removeprefix(JOBS).removesuffix("/stop")
                found = self.jobs.get(job)
                if found is not None and found.process.poll() is None:
                    found.stopped = True
                    found.process.terminate()
                self._reply(HTTPStatus.OK, {"stopped": found is not None and found.stopped})

    def _reply(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments: Any) -> None:
        """Log nothing."""


if __name__ == "__main__":
    address = ("0.0.0.0", int(sys.argv[1]))  # noqa: S104 - the heads' addresses, in the cluster's network namespace
    ThreadingHTTPServer(address, _Handler).serve_forever()
