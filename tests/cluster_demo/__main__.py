"""``python -m tests.cluster_demo``: installs Windlass on the test cluster and runs the demo; prints the job's times."""

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from tests.cluster_demo.installation import API_PORT, SYSTEM_NAMESPACE, admin_key, install_charts, run, start_cluster
from tests.cluster_demo.recorder import Recorder
from tests.testcluster.errors import EXIT_FAILED, LocalClusterError
from tests.testcluster.layout import LocalCluster, default_cache, default_state

from windlass.cli.demo import reviews
from windlass.cli.demo.console import DemoConsole
from windlass.sdk import Client

PROJECT = "demo"


def main() -> int:
    """Run the demo in a cluster; return 0 only if every step succeeded."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster_demo", description=__doc__)
    parser.add_argument("--state", type=Path, default=default_state(), help="state folder of the test cluster")
    parser.add_argument("--install", action="store_true", help="install missing Debian packages with apt-get")
    options = parser.parse_args()
    cluster = LocalCluster(options.state.resolve(), default_cache())
    console = DemoConsole(Console())
    try:
        with console.phase("Start the cluster, with the images, PostgreSQL and an S3 server"):
            start_cluster(cluster, install=options.install)
        with console.phase("Install Windlass with Helm"):
            install_charts(cluster, PROJECT)
        with _forwarded(cluster) as url, tempfile.TemporaryDirectory() as folder:
            key_file = Path(folder) / "key"
            key_file.write_text(admin_key(cluster), "utf-8")
            key_file.chmod(0o600)
            status = _run_demo(cluster, console, url, key_file)
    except LocalClusterError as failed:
        print(f"error: {failed}", file=sys.stderr)  # noqa: T201 - the command's output
        return EXIT_FAILED
    console.message("The cluster keeps running. Next commands:")
    console.command(f"export KUBECONFIG={cluster.kubeconfig} PATH={cluster.bin}:$PATH")
    console.command("kubectl get gpupools,projects,modelendpoints --all-namespaces")
    console.command("make cluster-down")
    return status


@contextlib.contextmanager
def _forwarded(cluster: LocalCluster) -> Iterator[str]:
    """Forward a local port to the API as ``kubectl port-forward`` does for users, and return its URL."""
    command = [str(cluster.bin / "kubectl"), f"--kubeconfig={cluster.kubeconfig}", "-n", SYSTEM_NAMESPACE]
    with subprocess.Popen(
        [*command, "port-forward", "service/windlass-api", f":{API_PORT}"], stdout=subprocess.PIPE, text=True
    ) as forward:
        try:
            assert forward.stdout is not None
            match = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
            if match is None:
                raise LocalClusterError("kubectl port-forward did not start")
            yield f"http://127.0.0.1:{match[1]}"
        finally:
            forward.terminate()


def _run_demo(cluster: LocalCluster, console: DemoConsole, url: str, key_file: Path) -> int:
    """Run the demo against the API, record its job, and print the times."""
    recorder = Recorder(cluster, Client(url=url, key_file=key_file, project=PROJECT), reviews.ENDPOINT)
    recorder.start()
    demo = [sys.executable, "-m", "windlass.cli.demo", "--part", "reviews", "--url", url]
    try:
        run(*demo, "--key-file", str(key_file), "--project", PROJECT)
    finally:
        recorder.stop()
        console.title("The job, in seconds")
        console.table(["stage", "since the start", "since the last stage"], recorder.waterfall.rows())
    if recorder.error is not None:
        raise LocalClusterError(f"the job could not be observed: {recorder.error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
