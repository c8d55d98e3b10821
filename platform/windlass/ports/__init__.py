"""What services and the worker need from the outside, named by role. Adapters implement these, and know no service."""

from windlass.ports.cluster import ClusterView, ProjectResources
from windlass.ports.running import (
    BackendRun,
    BackendState,
    DataProcessor,
    ModelImporter,
    PipelineBackend,
    RayCluster,
    RunFolders,
    ServingBackend,
)
from windlass.ports.storing import Clock, Database, JobJournal, ObjectStore, Outbox, ProjectData, Repository, UnitOfWork

__all__ = [
    "BackendRun",
    "BackendState",
    "Clock",
    "ClusterView",
    "DataProcessor",
    "Database",
    "JobJournal",
    "ModelImporter",
    "ObjectStore",
    "Outbox",
    "PipelineBackend",
    "ProjectData",
    "ProjectResources",
    "RayCluster",
    "Repository",
    "RunFolders",
    "ServingBackend",
    "UnitOfWork",
]
