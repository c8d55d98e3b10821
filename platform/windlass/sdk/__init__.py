"""The Python SDK: ``Client`` and ``AsyncClient``.

>>> from windlass.sdk import Client
>>> client = Client()                                      # doctest: +SKIP
>>> job = client.jobs.create({"task": "chat", ...})        # doctest: +SKIP
>>> job.wait().model_version                               # doctest: +SKIP

Errors are the classes of ``windlass.domain.errors``, one per problem code.
"""

from windlass.domain.errors import WindlassError
from windlass.sdk._core import WaitTimeoutError
from windlass.sdk.async_client import AsyncClient
from windlass.sdk.client import Client
from windlass.sdk.connection import Connection
from windlass.sdk.resources.endpoints import ChatDelta, ChatReply
from windlass.sdk.resources.job_handles import AsyncJob, AsyncJobDetail, Job, JobDetail
from windlass.sdk.resources.jobs import LogChunk, Message, MetricPoint
from windlass.sdk.resources.uploads import SourceFile

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "AsyncJobDetail",
    "ChatDelta",
    "ChatReply",
    "Client",
    "Connection",
    "Job",
    "JobDetail",
    "LogChunk",
    "Message",
    "MetricPoint",
    "SourceFile",
    "WaitTimeoutError",
    "WindlassError",
]
