"""``haemfed keys``: identity keys of centers, for operators that do not want to trust the coordinator with keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.console import explained

app = typer.Typer(no_args_is_help=True, help="Identity keys of centers.")


@app.command()
def make(
    centers: Annotated[list[str], typer.Argument(help="Names of centers, as the federation's roster has them.")],
    to: Annotated[Path, typer.Option(help="Directory for the private keys; it stays on the node.")],
) -> None:
    """Make an identity key for each center, and print the public halves. A key that is there already is kept."""
    from federation.privacy.keys import key_file
    from federation.privacy.signing import Signer

    with explained():
        made = {center: Signer(key_file(to, center)).public.hex() for center in centers}
        print(json.dumps(made, indent=2, ensure_ascii=False))


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="A directory of private keys, or a registry (JSON).")],
) -> None:
    """Print public keys as JSON: what operators exchange, and put together in a registry."""
    from federation.privacy.keys import public_keys, read_registry

    with explained():
        if not path.exists():
            raise ValueError(f"{path}: no such directory of keys, and no such registry")
        known = public_keys(path) if path.is_dir() else {n: key.hex() for n, key in read_registry(path).items()}
        if not known:
            raise ValueError(f"{path}: holds no keys (*.key); make some with 'haemfed keys make'")
        print(json.dumps(known, indent=2, ensure_ascii=False))
