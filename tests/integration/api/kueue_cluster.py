"""A control plane of a cluster whose Kueue admits the jobs, with a project that can submit some."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.cluster import MemoryView, make_pool, make_project, make_quota
from tests.fakes.harness import ControlPlaneHarness

OURS = make_project("ours", 11, make_quota(4))


@contextmanager
def control_plane_of(view: MemoryView, folder: Path) -> Iterator[ControlPlaneHarness]:
    built = ControlPlaneHarness(folder, cluster=view, trains=True)
    view.set_state([OURS], pools=[make_pool()])
    with built.client:
        built.cluster_sync.step()
        built.create_base_model()
        built.create_dataset("ours")
        yield built
    built.close()
