"""`agent-sft setup`: make environments ahead of time, and say what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command()
@click.argument("names", nargs=-1, metavar="[core|train|serve|eval|ray|all]...")
@click.option("--dry-run", is_flag=True, help="Say what would be made, and make nothing.")
def command(names: Sequence[str], dry_run: bool) -> None:
    """Make the environments that the engines run in.

    Every command makes those that it needs by itself; this makes them ahead of time. Without a name, all.
    Set AGENT_SFT_TRAIN_PYTHON, or the same of another one, to the Python of an existing installation to use that
    one instead.
    """
    for name in _resolve(names):
        if dry_run:
            click.echo(_plan(name))
        else:
            _show(name)


def _resolve(names: Sequence[str]) -> list[str]:
    """Return the environments meant, each once.

    Raises:
        UserError: an unknown name.
    """
    from agent_sft.engines.environments import known_environments
    from agent_sft.errors import UserError, nearest

    known = known_environments()
    for name in names:
        if name not in (*known, "all"):
            hint = nearest(name, [*known, "all"]) or f"there are: {', '.join(known)}, all"
            raise UserError(f"there is no environment '{name}'", fix=hint)
    return known if not names or "all" in names else list(dict.fromkeys(names))


def _plan(name: str) -> str:
    from agent_sft.engines.environments import environment_folder, given_python, is_made, python_variable

    given = given_python(name)
    if given is not None:
        return f"{name}: nothing to do, {python_variable(name)} is {given}"
    if is_made(name):
        return f"{name}: nothing to do, made in {environment_folder(name)}"
    return f"{name}: would be made in {environment_folder(name)} ({_about(name)})"


def _show(name: str) -> None:
    from agent_sft.engines.environments import engine_python, engine_versions

    python = engine_python(name)
    click.echo(f"{name}: {python}")
    versions = engine_versions(python, _main_packages(name))
    for package, version in versions.items():
        click.echo(f"  {package} {version or '(not installed)'}")


def _requirements(name: str) -> list[str]:
    from agent_sft.engines.environments import repo_root

    path = repo_root() / "requirements" / f"{name}.in"
    return path.read_text(encoding="utf-8").splitlines()


def _about(name: str) -> str:
    return _requirements(name)[0].removeprefix("# ")


def _main_packages(name: str) -> list[str]:
    return [line.split("==")[0] for line in _requirements(name) if line and line[0] not in "#-"]
