"""Names of the objects of served versions."""

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operators import desired_objects

from windlass.kube.serving.names import TEMPLATE_REVISION, credentials_of, service_of
from windlass_operators.render import model_endpoint


@given(st.text("abc-019", min_size=1, max_size=40), st.text("abc-019", min_size=1, max_size=80))
def test_names_are_short_enough_for_kuberay_and_differ_by_image(endpoint: str, key: str) -> None:
    names = {service_of(endpoint, key, image) for image in ("ray:1", "ray:2")}
    assert len(names) == 2
    assert all(len(name) <= 40 for name in names)
    assert len(credentials_of(max(names))) <= 63


def test_changed_pods_have_another_revision() -> None:
    """KubeRay does not replace the pods of a RayService that changes: without a new name they would stay for ever."""
    project = desired_objects.project()
    [service] = model_endpoint.objects(desired_objects.endpoint(), project, {})
    cluster = service["spec"]["rayClusterConfig"]
    templates = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    digest = hashlib.sha256(json.dumps(templates, sort_keys=True).encode()).hexdigest()[:12]
    assert (TEMPLATE_REVISION, digest) == (4, "173b72065e25"), (
        "if the pods have changed, increase TEMPLATE_REVISION; then write the new digest here"
    )
