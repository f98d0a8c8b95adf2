"""Ed25519 signatures of packages, by the `cryptography` package: the optional extra `sign`. Keys are PEM files, as `openssl genpkey -algorithm ed25519`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fpga_squeeze.errors import InputError, ToolMissingError

MAX_KEY_BYTES = 100_000


def _library() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise ToolMissingError("signatures need the `cryptography` package: pip install 'fpga-squeeze[sign]'") from error
    return serialization


def _key_bytes(path: Path, option: str) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_KEY_BYTES)
    except OSError as error:
        raise InputError(f"{option} {path}: cannot be read ({error.strerror}); an Ed25519 key as a PEM file was expected") from error


def sign(message: bytes, key: Path) -> bytes:
    """The 64 bytes of the signature by a private key without a password. The same message and key give the same bytes.

    Raises:
        ToolMissingError: `cryptography` is not installed. InputError: no such key.
    """
    library = _library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    content = _key_bytes(key, "--sign")
    try:
        loaded = library.load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:  # TypeError: the key has a password
        raise InputError(f"--sign {key}: an Ed25519 private key as a PEM file without a password was expected") from error
    if not isinstance(loaded, Ed25519PrivateKey):
        raise InputError(f"--sign {key}: an Ed25519 private key was expected, it is of another kind")
    return bytes(loaded.sign(message))


def check_signature(message: bytes, signature: bytes | None, key: Path, where: str) -> None:
    """Raise InputError unless `signature` is that of `message` by the public key's owner.

    Raises:
        ToolMissingError: `cryptography` is not installed. InputError: no signature, a wrong one, or no such key.
    """
    library = _library()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    content = _key_bytes(key, "--public-key")
    try:
        loaded = library.load_pem_public_key(content)
    except ValueError as error:
        raise InputError(f"--public-key {key}: an Ed25519 public key as a PEM file was expected") from error
    if not isinstance(loaded, Ed25519PublicKey):
        raise InputError(f"--public-key {key}: an Ed25519 public key was expected, it is of another kind")
    if signature is None:
        raise InputError(f"{where}: it is not signed; a package signed with the key of --public-key was expected")
    try:
        loaded.verify(signature, message)
    except InvalidSignature as error:
        raise InputError(f"{where}: the signature is not that of --public-key {key.name}; do not load this package") from error
