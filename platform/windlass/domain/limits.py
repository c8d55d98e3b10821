"""What a project may have."""

from datetime import timedelta

from windlass.domain.jobs import DomainModel


class ProjectLimits(DomainModel):
    """Limits of each project, from the settings of the server."""

    active_jobs: int
    """Jobs that have not ended."""
    pending_dataset_versions: int
    """Dataset versions in state ``processing``."""
    versions_per_dataset: int
    upload_bytes: int
    """Bytes of one upload."""
    upload_ttl: timedelta
    """Time after which an open upload expires."""
    stored_bytes: int
    """Bytes of all files of the project, those announced by open uploads included."""
    datasets: int
    open_uploads: int
    models: int
    aliases_per_model: int
    members: int
    """Users and groups."""
    service_accounts: int
    keys_per_user: int
    """Keys that are neither revoked nor expired, in all projects; and how many of the others are kept."""
    sessions_per_user: int
    """Sessions that are stored; the oldest ones end for a new one."""
    base_models: int
    """Base models of the catalogue, which all projects share."""
    endpoints: int
    replicas_per_endpoint: int
    replicas_per_project: int
    """A replica takes about 0.5 GB of memory and more."""
