"""The smoke test of a served application: one small question, before any traffic."""

import httpx2

from windlass.domain.specs import Task

_SECONDS = 60.0
_QUESTIONS: dict[Task, tuple[str, dict[str, object]]] = {
    Task.TEXT_CLASSIFICATION: ("predict", {"inputs": ["A short sentence.", ""]}),
    Task.CHAT: ("chat/completions", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}),
}


def probe(url: str, task: Task) -> str:
    """Ask the application at ``url``; return an empty string when it answers, else what went wrong."""
    path, question = _QUESTIONS[task]
    try:
        reply = httpx2.post(f"{url}/{path}", json=question, timeout=_SECONDS)
    except httpx2.HTTPError as error:
        return f"it did not answer ({type(error).__name__})"
    return "" if reply.is_success else f"it answered {reply.status_code}"
