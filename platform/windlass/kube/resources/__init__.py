"""The custom resources, one module per kind. The CRDs are generated from these models."""

from windlass.kube.resources.base import Condition, CustomResource, Metadata, condition
from windlass.kube.resources.gpu_pool import GPUPool, GPUPoolSpec, GPUPoolStatus
from windlass.kube.resources.model_endpoint import ModelEndpoint, ModelEndpointSpec, ModelEndpointStatus
from windlass.kube.resources.project import Project, ProjectQuota, ProjectSpec, ProjectStatus

KINDS: tuple[type[CustomResource], ...] = (GPUPool, Project, ModelEndpoint)

__all__ = [
    "KINDS",
    "Condition",
    "CustomResource",
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
    "condition",
]
