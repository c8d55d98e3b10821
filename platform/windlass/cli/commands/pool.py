"""``windlass pool``: pools of accelerators."""

from functools import partial
from typing import Annotated, Any

import typer

from windlass.cli.deletion import DryRun, Yes, delete
from windlass.cli.name_completion import names_of
from windlass.cli.render import Column
from windlass.cli.session import Session, command, command_group
from windlass.kit.numbers import parse_size, size
from windlass.wire.projects import PoolOut, PoolPatch

app = command_group("Manage pools of accelerators.")


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


GpuMemory = Annotated[
    int | None,
    typer.Option(parser=_size, metavar="SIZE", help="Memory of one GPU, for example 24GiB: jobs above it are refused."),
]


def _nodes(pool: PoolOut) -> str | None:
    if pool.nodes is None or pool.ready_nodes == pool.nodes:
        return None if pool.nodes is None else str(pool.nodes)
    return f"{pool.nodes}, {pool.ready_nodes} ready"


_COLUMNS = (
    Column[PoolOut]("name", lambda pool: pool.name),
    Column[PoolOut]("capacity", lambda pool: pool.capacity),
    Column[PoolOut]("nominal", lambda pool: pool.nominal),
    Column[PoolOut]("in use", lambda pool: pool.in_use),
    Column[PoolOut]("nodes", _nodes),
    Column[PoolOut]("gpu type", lambda pool: pool.gpu_type),
    Column[PoolOut]("gpu memory", lambda pool: pool.gpu_memory_bytes and size(pool.gpu_memory_bytes)),
    Column[PoolOut]("max per job", lambda pool: pool.max_gpus_per_job),
    Column[PoolOut]("price per gpu hour", lambda pool: pool.price_per_gpu_hour or None),
    Column[PoolOut]("problem", lambda pool: pool.problem or None, shrinks=True),
)


def _name(pool: PoolOut) -> str:
    return pool.name


@app.command("list")
@command
def list_pools(session: Session) -> None:
    """List the pools."""
    session.list(session.client.pools.list(), _COLUMNS, _name)


@app.command("show")
@command
def show(session: Session, name: Annotated[str, typer.Argument(autocompletion=names_of("pool"))]) -> None:
    """Show a pool."""
    session.show(session.client.pools.get(name), _COLUMNS, _name)


@app.command("create")
@command
def create(
    session: Session,
    name: Annotated[str, typer.Argument()],
    *,
    capacity: Annotated[int, typer.Option(min=0, help="Number of GPUs, or of CPU slots without GPUs.")],
    gpu_type: Annotated[str, typer.Option(help="GPU model, for example H200.")] = "",
    max_per_job: Annotated[int | None, typer.Option(min=1, help="Maximum GPUs per job.")] = None,
    price: Annotated[float, typer.Option(min=0, help="Price per GPU hour.")] = 0.0,
    gpu_memory: GpuMemory = None,
) -> None:
    """Create a pool (platform admins)."""
    pool = session.client.pools.create(
        name,
        capacity,
        gpu_type=gpu_type,
        max_gpus_per_job=max_per_job,
        price_per_gpu_hour=price,
        gpu_memory_bytes=gpu_memory,
    )
    session.show(pool, _COLUMNS, _name)


@app.command("set")
@command
def set_pool(
    session: Session,
    name: Annotated[str, typer.Argument(autocompletion=names_of("pool"))],
    *,
    capacity: Annotated[int | None, typer.Option(min=0, help="Number of GPUs, or of CPU slots without GPUs.")] = None,
    gpu_type: Annotated[str | None, typer.Option(help="GPU model, for example H200.")] = None,
    max_per_job: Annotated[int | None, typer.Option(min=1, help="Maximum GPUs per job.")] = None,
    price: Annotated[float | None, typer.Option(min=0, help="Price per GPU hour.")] = None,
    gpu_memory: GpuMemory = None,
) -> None:
    """Change a pool (platform admins)."""
    options: dict[str, Any] = {
        "capacity": capacity,
        "gpu_type": gpu_type,
        "max_gpus_per_job": max_per_job,
        "price_per_gpu_hour": price,
        "gpu_memory_bytes": gpu_memory,
    }
    change = {field: value for field, value in options.items() if value is not None}
    if not change:
        raise typer.BadParameter("no change: give at least one option")
    session.show(session.client.pools.update(name, PoolPatch(**change)), _COLUMNS, _name)


@app.command("delete")
@command
def delete_pool(
    session: Session,
    name: Annotated[str, typer.Argument(autocompletion=names_of("pool"))],
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Delete a pool that has no quotas and no active jobs (platform admins)."""
    pools = session.client.pools
    delete(session, partial(pools.delete, name), yes=yes, dry_run=dry_run)
