"""Types of path, query and header parameters."""

from typing import Annotated

from fastapi import Header, Path, Query

from windlass.domain.ids import GroupName, Number, UserName
from windlass.domain.text import Identifier, TextConstraints
from windlass.wire.datasets import FileName

ProjectName = Annotated[Identifier, Path(description="name of the project")]
DatasetName = Annotated[Identifier, Path(description="name of the dataset")]
ModelName = Annotated[Identifier, Path(description="name of the model")]
EndpointName = Annotated[Identifier, Path(description="name of the endpoint")]
BaseModelName = Annotated[Identifier, Path(description="name of the base model")]
PoolName = Annotated[Identifier, Path(description="name of the pool")]
UserParameter = Annotated[Identifier, Path(description="name of the user")]
NewUser = Annotated[UserName, Path(description="name of the user")]
GroupParameter = Annotated[GroupName, Path(description="name of the group")]
ErasureId = Annotated[Identifier, Path(description="id of the erasure, `ers_...`")]
UploadId = Annotated[Identifier, Path(description="id of the upload, `up_...`")]
JobId = Annotated[Identifier, Path(description="id of the job, `job_...`")]
ServiceAccountName = Annotated[Identifier, Path(description="name of the service account")]
SessionId = Annotated[Identifier, Path(description="id of the session, `ses_...`; not its secret")]
KeyId = Annotated[Identifier, Path(description="id of the key, `key_...`; not its secret")]
QuotaChangeId = Annotated[Identifier, Path(description="id of the quota change")]
RunId = Annotated[Identifier, Path(description="id of the run, `run_...`")]
UploadFileName = Annotated[FileName, Path(description="name of a declared file of the upload")]
ArtifactPath = Annotated[
    str, TextConstraints(min_length=1, max_length=1000), Path(description="path of a file in the version's manifest")
]
BaseModelFilePath = Annotated[
    str, TextConstraints(min_length=1, max_length=300), Path(description="path of a declared file of the base model")
]
VersionNumber = Annotated[Number, Path(description="number of the version")]

Accept = Annotated[str, TextConstraints(max_length=1000), Header(description="accepted media types")]
CursorText = Annotated[
    Annotated[str, TextConstraints(max_length=200)] | None, Query(description="`next_cursor` of the previous page")
]
LastEventId = Annotated[
    Annotated[str, TextConstraints(max_length=20)] | None,
    Header(alias="Last-Event-ID", description="resume a stream after this event"),
]
UploadOffset = Annotated[
    int, Header(alias="Upload-Offset", ge=0, le=1 << 40, description="position of the first byte of the body")
]
Cascade = Annotated[bool, Query(description="delete what descends from the object by lineage too; a dry run lists it")]
DryRun = Annotated[bool, Query(description="validate and return the effects; change nothing")]
Limit = Annotated[int, Query(ge=1, le=200, description="maximum number of items of the page")]
