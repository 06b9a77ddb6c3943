"""Identities of centers: the keys that their operators have exchanged, against a coordinator that puts in its own.

Keys for masks pass through the coordinator. Every operator holds a *registry*, the public identity keys (Ed25519) of
all centers, which came to it by another way than through the coordinator. A center signs its mask key with its identity
key, and takes only mask keys of its neighbours that are signed by the identity the registry has for them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from federation.privacy.signing import KEY_BYTES, Signer
from federation.state import file_name

REGISTRY, IDENTITIES = "HAEMFED_REGISTRY", "HAEMFED_IDENTITIES"
"""Environment variables of a center's node: the file of the registry, and the directory of its own private keys."""


class KeyRegistryError(ValueError):
    """A registry or an identity key is missing or wrong; the message names the file and the center."""


def key_file(directory: Path, center: str) -> Path:
    """Where a center's private identity key is."""
    return directory / f"{file_name(center)}.key"


def read_registry(path: Path) -> dict[str, bytes]:
    """Public identity keys by center, from a JSON object of names and 64 hexadecimal digits each.

    Raises
    ------
    KeyRegistryError
        If the file is none.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KeyRegistryError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(said, dict) or not said:
        raise KeyRegistryError(f'{path}: is no object of names and keys; write for instance {{"Ulm": "9f86…"}}')
    found: dict[str, bytes] = {}
    for center, text in said.items():
        try:
            key = bytes.fromhex(text)
        except (TypeError, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise KeyRegistryError(f"{path}: the key of {center!r} is {text!r}; it has {2 * KEY_BYTES} hex digits")
        if twin := next((other for other, its in found.items() if its == key), None):
            raise KeyRegistryError(f"{path}: {twin!r} and {center!r} have the same key")
        found[center] = key
    return found


def public_keys(directory: Path) -> dict[str, str]:
    """The public halves of the private keys in a directory, as a registry has them."""
    return {unquote(p.stem): Signer(p).public.hex() for p in sorted(directory.glob("*.key"))}


@dataclass(frozen=True)
class Identities:
    """What a node knows of identities.

    Parameters
    ----------
    registry
        Public keys of all centers.
    directory
        Of the private keys of the centers on this node.
    """

    registry: Mapping[str, bytes]
    directory: Path

    @classmethod
    def of_this_node(cls) -> Identities | None:
        """As the operator of this node has set it up; None where nothing is.

        Raises
        ------
        KeyRegistryError
            If it is set up by half or wrongly: a center then does not start.
        """
        registry, directory = os.environ.get(REGISTRY), os.environ.get(IDENTITIES)
        if not registry and not directory:
            return None
        if not registry or not directory:
            there, lacks = (REGISTRY, IDENTITIES) if registry else (IDENTITIES, REGISTRY)
            raise KeyRegistryError(f"{there} is set and {lacks} is not; a node needs both, or neither")
        return cls(read_registry(Path(registry)), Path(directory))

    def announce(self, center: str, public: bytes) -> bytes:
        """A mask key with the signature of its center.

        Raises
        ------
        KeyRegistryError
            If the center's identity key is not here, or not the one that others know.
        """
        path = key_file(self.directory, center)
        if not path.exists():
            raise KeyRegistryError(f"{path}: no identity key of {center!r}; make one with 'haemfed keys make'")
        signer = Signer(path)
        if self.registry.get(center) != signer.public:
            raise KeyRegistryError(f"{path}: is not the key that the registry has for {center!r}")
        return public + signer.sign_bytes(_said(center, public))

    def opened(self, center: str, announcement: bytes) -> bytes:
        """The mask key in an announcement.

        Raises
        ------
        KeyRegistryError
            If the center that it is said to come from has not signed it.
        """
        if center not in self.registry:
            raise KeyRegistryError(f"{center!r} is not in the registry of centers")
        public, signature = announcement[:KEY_BYTES], announcement[KEY_BYTES:]
        try:
            Ed25519PublicKey.from_public_bytes(self.registry[center]).verify(signature, _said(center, public))
        except (InvalidSignature, ValueError):
            raise KeyRegistryError(
                f"the key that came for {center!r} is not signed by the identity that the registry has for it"
            ) from None
        return public


def _said(center: str, public: bytes) -> bytes:
    """What an identity key signs: nothing else that is signed here begins like it."""
    return b"haemfed mask key\0" + public + center.encode()
