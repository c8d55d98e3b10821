"""``windlass pool``: pools of accelerators."""

from typing import Annotated, Any

import typer

from windlass.cli.render import Column
from windlass.cli.session import Session, noun, verb
from windlass.wire.projects import PoolOut, PoolPatch

app = noun("Pools of accelerators.")


def _nodes(pool: PoolOut) -> str | None:
    if pool.nodes is None or pool.ready_nodes == pool.nodes:
        return None if pool.nodes is None else str(pool.nodes)
    return f"{pool.nodes}, {pool.ready_nodes} of them ready"


_COLUMNS = (
    Column[PoolOut]("name", lambda pool: pool.name),
    Column[PoolOut]("capacity", lambda pool: pool.capacity),
    Column[PoolOut]("nominal", lambda pool: pool.nominal),
    Column[PoolOut]("in use", lambda pool: pool.in_use),
    Column[PoolOut]("nodes", _nodes),
    Column[PoolOut]("gpu type", lambda pool: pool.gpu_type),
    Column[PoolOut]("most per job", lambda pool: pool.max_gpus_per_job),
    Column[PoolOut]("price per gpu hour", lambda pool: pool.price_per_gpu_hour or None),
    Column[PoolOut]("problem", lambda pool: pool.problem or None),
)


def _name(pool: PoolOut) -> str:
    return pool.name


@app.command("list")
@verb
def list_pools(session: Session) -> None:
    """List the pools."""
    session.list(session.client.pools.list(), _COLUMNS, _name)


@app.command("show")
@verb
def show(session: Session, name: Annotated[str, typer.Argument()]) -> None:
    """Show a pool."""
    session.show(session.client.pools.get(name), _COLUMNS, _name)


@app.command("create")
@verb
def create(
    session: Session,
    name: Annotated[str, typer.Argument()],
    capacity: Annotated[int, typer.Option(min=0, help="GPUs, or CPU slots where there are none.")],
    gpu_type: Annotated[str, typer.Option(help="What the GPUs are, like H200.")] = "",
    max_per_job: Annotated[int | None, typer.Option(min=1, help="The most that one job may ask for.")] = None,
    price: Annotated[float, typer.Option(min=0, help="Per GPU hour.")] = 0.0,
) -> None:
    """Create a pool (platform admins)."""
    pool = session.client.pools.create(
        name, capacity, gpu_type=gpu_type, max_gpus_per_job=max_per_job, price_per_gpu_hour=price
    )
    session.show(pool, _COLUMNS, _name)


@app.command("set")
@verb
def set_pool(
    session: Session,
    name: Annotated[str, typer.Argument()],
    capacity: Annotated[int | None, typer.Option(min=0, help="GPUs, or CPU slots where there are none.")] = None,
    gpu_type: Annotated[str | None, typer.Option(help="What the GPUs are, like H200.")] = None,
    max_per_job: Annotated[int | None, typer.Option(min=1, help="The most that one job may ask for.")] = None,
    price: Annotated[float | None, typer.Option(min=0, help="Per GPU hour.")] = None,
) -> None:
    """Change a pool (platform admins)."""
    wished: dict[str, Any] = {
        "capacity": capacity,
        "gpu_type": gpu_type,
        "max_gpus_per_job": max_per_job,
        "price_per_gpu_hour": price,
    }
    change = {field: value for field, value in wished.items() if value is not None}
    if not change:
        raise typer.BadParameter("nothing to change: give at least one option")
    session.show(session.client.pools.update(name, PoolPatch(**change)), _COLUMNS, _name)


@app.command("delete")
@verb
def delete(session: Session, name: Annotated[str, typer.Argument()]) -> None:
    """Delete a pool that nobody uses (platform admins)."""
    session.client.pools.delete(name)
    session.say(f"pool {name} is deleted")
