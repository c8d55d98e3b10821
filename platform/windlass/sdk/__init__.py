"""The Python SDK: ``Client`` and ``AsyncClient``.

>>> from windlass.sdk import Client
>>> client = Client()                                      # doctest: +SKIP
>>> job = client.jobs.create({"task": "chat", ...})        # doctest: +SKIP
>>> job.wait().model_version                               # doctest: +SKIP

Errors are the classes of ``windlass.domain.errors``, one per problem code.
"""

from windlass.domain.errors import WindlassError
from windlass.sdk._async.client import AsyncClient
from windlass.sdk._async.job_handles import AsyncJob, AsyncJobDetail
from windlass.sdk._async.pages import AsyncCursorPage, AsyncPaginator
from windlass.sdk._protocol import WaitTimeoutError
from windlass.sdk._sync.client import Client
from windlass.sdk._sync.job_handles import Job, JobDetail
from windlass.sdk._sync.pages import CursorPage
from windlass.sdk.chat import ChatDelta, ChatReply
from windlass.sdk.connection import Connection
from windlass.sdk.job_messages import LogChunk, Message, MetricPoint
from windlass.sdk.predictions import Prediction
from windlass.sdk.source_files import SourceFile

__all__ = [
    "AsyncClient",
    "AsyncCursorPage",
    "AsyncJob",
    "AsyncJobDetail",
    "AsyncPaginator",
    "ChatDelta",
    "ChatReply",
    "Client",
    "Connection",
    "CursorPage",
    "Job",
    "JobDetail",
    "LogChunk",
    "Message",
    "MetricPoint",
    "Prediction",
    "SourceFile",
    "WaitTimeoutError",
    "WindlassError",
]
