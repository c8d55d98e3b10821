"""``windlass chat``: chat with an endpoint."""

import sys
from typing import Annotated, Any

import typer

from windlass.cli import errors
from windlass.cli.safe_text import lines
from windlass.cli.session import Session, command
from windlass.cli.text_input import TextCommand, read_stdin, reject_file_names
from windlass.domain.errors import InvalidError, UnavailableError, UpstreamError

_RECOVERABLE = (InvalidError, UnavailableError, UpstreamError)
"""Errors of one question that do not end the conversation."""

app = typer.Typer(add_completion=False)


@app.command(cls=TextCommand)
@command
def chat(
    session: Session,
    *,
    endpoint: Annotated[str, typer.Argument()],
    message: Annotated[str | None, typer.Argument(help="One question; without it, start a conversation.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Maximum tokens per answer.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="Sampling temperature; 0: greedy decoding.")] = 0.0,
) -> None:
    """Ask one question, or start a conversation (Ctrl-D ends it); answers are streamed."""
    conversation = [{"role": "system", "content": system}] if system else []
    parameters = {"max_tokens": max_tokens, "temperature": temperature}
    if message is None and not sys.stdin.isatty():
        message = read_stdin()
    elif message is not None:
        reject_file_names([message], f"send its content: windlass chat {endpoint} < {{file}}")
    if message is not None:
        _answer(session, endpoint, [*conversation, {"role": "user", "content": message}], parameters)
        return
    session.message(f"chatting with {endpoint}; Ctrl-D ends the conversation, Ctrl-C stops an answer")
    while True:
        try:
            question = input("> ")
        except (EOFError, KeyboardInterrupt):
            session.message("")
            return
        if not question.strip():
            continue
        conversation.append({"role": "user", "content": question})
        try:
            answer = _answer(session, endpoint, conversation, parameters)
        except typer.Exit:
            conversation.pop()
            continue
        except _RECOVERABLE as error:
            errors.print_error(error)
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
        session.message("\nstopped")
        raise typer.Exit(errors.INTERRUPTED) from None
    session.write("\n")
    return "".join(pieces)
