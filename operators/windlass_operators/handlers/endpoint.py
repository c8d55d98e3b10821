"""ModelEndpoint: its RayService."""

from windlass.kube.names import ENDPOINT_LABEL, project_of
from windlass.kube.objects import Ref
from windlass.kube.resources import ModelEndpoint, Project
from windlass_operators.children import Outcome
from windlass_operators.decide import endpoint
from windlass_operators.handlers.writing import RETRY_SECONDS, Writer
from windlass_operators.kinds import RAY_SERVICE
from windlass_operators.render import model_endpoint as render
from windlass_operators.world import World


def reconcile(subject: ModelEndpoint, world: World, writer: Writer, serving: render.Serving) -> float | None:
    """Bring about the endpoint; return seconds until another look is wanted."""
    if subject.metadata.deletion_timestamp is not None:
        return None  # its RayService has it as owner, and goes with it
    name, space = subject.metadata.name, subject.metadata.namespace
    pools = world.pools()
    home = endpoint.project_for(subject, _projects(subject, world))
    obstacle = endpoint.obstacle(subject, home, pools, serving, world.older_endpoints(subject))
    labelled = world.store.labelled(RAY_SERVICE, ENDPOINT_LABEL, name)
    observed = [one for one in labelled if one["metadata"].get("namespace") == space]
    outcome = Outcome()
    if not render.replicas(subject):
        outcome = writer.children(subject, [], observed)  # whatever stands in the way of serving, stopping needs none
    elif obstacle is None and home is not None:
        outcome = writer.children(subject, render.objects(subject, home, pools, serving), observed)
    service = world.store.get(Ref(RAY_SERVICE, render.service_name(name), space))
    status = endpoint.conditions(subject, obstacle, outcome.refused, service, writer.now())
    # the rest of the status is the control plane's
    before = {field: value for field, value in subject.status.wire().items() if field in status}
    writer.status(subject, before, status)
    return RETRY_SECONDS if outcome.refused else None


def _projects(subject: ModelEndpoint, world: World) -> dict[str, Project]:
    """The project that the endpoint's namespace names, if there is one."""
    home = world.project(project_of(subject.metadata.namespace or "") or "")
    return {home.metadata.name: home} if home else {}
