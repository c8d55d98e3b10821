"""``windlass chat``: talk to an endpoint."""

import sys
from typing import Annotated, Any

import typer

from windlass.cli import failures
from windlass.cli.safe_text import lines
from windlass.cli.session import Session, verb
from windlass.domain.errors import InvalidError, UnavailableError, UpstreamError

_PASSING = (InvalidError, UnavailableError, UpstreamError)
"""What one question may meet without the conversation being over."""

app = typer.Typer(add_completion=False)


@app.command()
@verb
def chat(
    session: Session,
    *,
    endpoint: Annotated[str, typer.Argument()],
    message: Annotated[str | None, typer.Argument(help="One question; without it, a conversation.")] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told first.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0: always the likeliest token.")] = 0.0,
) -> None:
    """Ask one question, or hold a conversation (end it with Ctrl-D); answers come as they are made."""
    conversation = [{"role": "system", "content": system}] if system else []
    parameters = {"max_tokens": max_tokens, "temperature": temperature}
    if message is None and not sys.stdin.isatty():
        message = sys.stdin.read()
    if message is not None:
        _answer(session, endpoint, [*conversation, {"role": "user", "content": message}], parameters)
        return
    session.say(f"talking to {endpoint}; Ctrl-D ends it, Ctrl-C stops an answer")
    while True:
        try:
            question = input("> ")
        except (EOFError, KeyboardInterrupt):
            session.say("")
            return
        if not question.strip():
            continue
        conversation.append({"role": "user", "content": question})
        try:
            answer = _answer(session, endpoint, conversation, parameters)
        except typer.Exit:
            conversation.pop()
            continue
        except _PASSING as error:
            failures.show(error)
            conversation.pop()
            continue
        conversation.append({"role": "assistant", "content": answer})


def _answer(session: Session, endpoint: str, conversation: list[dict[str, str]], parameters: dict[str, Any]) -> str:
    endpoints = session.client.endpoints
    if session.machine:
        reply = endpoints.chat(endpoint, conversation, **parameters)
        session.document(reply.raw)
        return reply.text
    pieces = []
    try:
        for delta in endpoints.chat_stream(endpoint, conversation, **parameters):
            pieces.append(delta.text)
            session.write(lines(delta.text))
    except KeyboardInterrupt:
        session.say("\nstopped")
        raise typer.Exit(failures.INTERRUPTED) from None
    session.write("\n")
    return "".join(pieces)
