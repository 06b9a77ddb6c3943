"""Ray's own door: who has another token, or a certificate of another authority, or none, is not taken in."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CLUSTER = """
import json, os, subprocess, sys, ray
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
address = ray.get_runtime_context().gcs_address
code = f"import ray; ray.init({address!r}, log_to_driver=False); print(ray.get(ray.remote(lambda: 'in').remote()))"
for name, given in json.loads(sys.argv[1]).items():
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_AUTH", "RAY_TLS", "RAY_USE_TLS"))} | given
    try:
        found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=100)
        print(name, "in" if found.returncode == 0 and found.stdout.strip() == "in" else "out", flush=True)
    except subprocess.TimeoutExpired:
        print(name, "out", flush=True)
"""


def who_gets_in(own: dict[str, str], others: dict[str, dict[str, str]]) -> dict[str, str]:
    """Start a cluster with some environment, and let drivers with others connect."""
    foreign = ("RAY_ADDRESS", "RAY_AUTH", "RAY_TLS", "RAY_USE_TLS")
    env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)} | own
    arguments = [sys.executable, "-c", CLUSTER, json.dumps(others)]
    found = subprocess.run(arguments, env=env, capture_output=True, text=True, timeout=550)
    assert found.returncode == 0, found.stderr
    return dict(line.split() for line in found.stdout.splitlines())


@pytest.mark.slow
def test_a_cluster_with_a_token_takes_nobody_in_without_it(tmp_path: Path) -> None:
    """The token in a file that only its owner can read, as the recipe in docs/scaling.md has it."""
    given = {"none": {}}
    for name, token in (("right", "a" * 64), ("wrong", "b" * 64)):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(token)
        given[name] = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / name)}
    assert who_gets_in(given["right"], given) == {"none": "out", "right": "in", "wrong": "out"}


class Authority:
    """A certificate authority for a test, in a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir()
        self._key, self._name = ec.generate_private_key(ec.SECP256R1()), name
        self.directory = directory
        self._write("ca.crt", self._certificate(self._key, name, True).public_bytes(serialization.Encoding.PEM))

    def environment(self, node: str) -> dict[str, str]:
        """Ray's settings for a node with a certificate of this authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        certificate = self._certificate(key, node, False).public_bytes(serialization.Encoding.PEM)
        return {
            "RAY_AUTH_MODE": "disabled",  # so that nothing but the certificate decides
            "RAY_USE_TLS": "1",
            "RAY_TLS_SERVER_CERT": self._write(f"{node}.crt", certificate),
            "RAY_TLS_SERVER_KEY": self._write(f"{node}.key", secret),
            "RAY_TLS_CA_CERT": str(self.directory / "ca.crt"),
        }

    def _write(self, name: str, content: bytes) -> str:
        (self.directory / name).touch(0o600)
        (self.directory / name).write_bytes(content)
        return str(self.directory / name)

    def _certificate(self, key: ec.EllipticCurvePrivateKey, name: str, authority: bool) -> x509.Certificate:
        def called(name: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

        now = datetime.datetime.now(datetime.UTC)
        places = [ipaddress.ip_address(ray.util.get_node_ip_address()), ipaddress.ip_address("127.0.0.1")]
        return (
            x509.CertificateBuilder()
            .subject_name(called(name))
            .issuer_name(called(self._name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName("localhost"), *map(x509.IPAddress, places)]), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )


@pytest.mark.slow
def test_a_cluster_with_tls_takes_nobody_in_without_a_certificate_of_its_authority(tmp_path: Path) -> None:
    own, other = Authority(tmp_path / "own", "haemfed test"), Authority(tmp_path / "other", "somebody")
    mixed = other.environment("driver") | {"RAY_TLS_CA_CERT": str(own.directory / "ca.crt")}
    given = {"right": own.environment("driver"), "foreign": mixed, "none": {"RAY_AUTH_MODE": "disabled"}}
    assert who_gets_in(own.environment("node"), given) == {"right": "in", "foreign": "out", "none": "out"}
