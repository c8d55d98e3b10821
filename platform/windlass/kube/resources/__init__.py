"""The custom resources, one file a kind. Code reads them with these models; the CRDs are generated from the same."""

from windlass.kube.resources.base import Condition, Metadata, Resource, condition
from windlass.kube.resources.gpu_pool import GPUPool, GPUPoolSpec, GPUPoolStatus
from windlass.kube.resources.model_endpoint import ModelEndpoint, ModelEndpointSpec, ModelEndpointStatus
from windlass.kube.resources.project import Project, ProjectQuota, ProjectSpec, ProjectStatus

KINDS: tuple[type[Resource], ...] = (GPUPool, Project, ModelEndpoint)

__all__ = [
    "KINDS",
    "Condition",
    "GPUPool",
    "GPUPoolSpec",
    "GPUPoolStatus",
    "Metadata",
    "ModelEndpoint",
    "ModelEndpointSpec",
    "ModelEndpointStatus",
    "Project",
    "ProjectQuota",
    "ProjectSpec",
    "ProjectStatus",
    "Resource",
    "condition",
]
