"""Keys, shares and masks against the published test vectors."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from federation.privacy.graph import falls_apart, graph_of, needed, neighbours_needed
from federation.privacy.masks import MaskStream, agree, expand, extract, seal
from federation.privacy.shamir import PRIME, InconsistentShares, combine, split

h = bytes.fromhex


def test_key_agreement_of_rfc_7748_section_6_1() -> None:
    alice = X25519PrivateKey.from_private_bytes(h("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    bob = X25519PrivateKey.from_private_bytes(h("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    publics = [key.public_key().public_bytes_raw() for key in (alice, bob)]
    assert publics[0] == h("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    assert publics[1] == h("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    shared = h("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert alice.exchange(X25519PublicKey.from_public_bytes(publics[1])) == shared
    assert agree(alice, publics[1]) == agree(bob, publics[0]) == extract(shared, b"".join(sorted(publics)))


@pytest.mark.parametrize(
    ("key", "salt", "info", "derived", "found"),
    [
        (
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",  # pragma: allowlist secret
            # pragma: allowlist nextline secret
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            "".join(f"{i:02x}" for i in range(0x50)),
            "".join(f"{i:02x}" for i in range(0x60, 0xB0)),
            "".join(f"{i:02x}" for i in range(0xB0, 0x100)),
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",  # pragma: allowlist secret
            # pragma: allowlist nextline secret
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",  # pragma: allowlist secret
        ),
        (
            "0b" * 22,
            "",
            "",
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",  # pragma: allowlist secret
            # pragma: allowlist nextline secret
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_key_derivation_of_rfc_5869_appendix_a(key: str, salt: str, info: str, derived: str, found: str) -> None:
    assert extract(h(key), h(salt)) == h(derived)
    assert expand(h(derived), h(info), len(found) // 2) == h(found)


def test_the_stream_is_aes_in_counter_mode() -> None:
    """Encrypted counters, from two (NIST SP 800-38D, 6.5 and 7.1)."""
    key = h("2b7e151628aed2a6abf7158809cf4f3c")
    zeros = np.zeros((1, 4), dtype=np.uint64)
    MaskStream((1, 4)).add(zeros, [key])
    assert zeros.tobytes() == seal(key, bytes(32))
    plain = b"".join(i.to_bytes(16, "big") for i in (2, 3))
    assert zeros.tobytes() == Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(plain)


@settings(deadline=None)  # the first example compiles
@given(st.binary(min_size=16, max_size=16), st.integers(1, 6), st.integers(0, 4))
def test_any_shares_up_to_the_threshold_give_the_secret_back(secret: bytes, threshold: int, more: int) -> None:
    shares = split(secret, threshold, threshold + more)
    for chosen in itertools.islice(itertools.combinations(range(len(shares)), threshold), 20):
        assert combine([i + 1 for i in chosen], [shares[i] for i in chosen]) == secret


def test_fewer_shares_say_nothing() -> None:
    """Two shares of a threshold of three: evenly distributed, and as likely with any other secret."""
    found = {}
    for secret in (bytes(16), b"\xff" * 16):
        drawn = np.array([np.frombuffer(b"".join(split(secret, 3, 3)[:2]), "<u4") for _ in range(2000)])
        found[secret] = drawn.ravel() / PRIME
        assert stats.kstest(found[secret], "uniform").pvalue > 1e-4
        assert abs(np.corrcoef(drawn[:, 0], drawn[:, 8])[0, 1]) < 0.1
    assert stats.ks_2samp(*found.values()).pvalue > 1e-4


def test_any_secret_is_possible_given_too_few_shares() -> None:
    """For two shares and any secret there is a third share: the polynomial through three points."""
    shares = split(os.urandom(16), 3, 3)[:2]
    y = [int.from_bytes(share[:4], "little") for share in shares]
    for secret in (0, 1, 65535):  # of the first number
        third = (secret - 3 * y[0] + 3 * y[1]) % PRIME  # s = 3y1 - 3y2 + y3
        three = [value.to_bytes(4, "little") + bytes(28) for value in (*y, third)]
        assert combine([1, 2, 3], three)[:2] == secret.to_bytes(2, "little")


def test_shares_of_different_secrets_are_noticed() -> None:
    a, b = split(bytes(16), 2, 3), split(b"\xff" * 16, 2, 3)
    with pytest.raises(InconsistentShares):
        combine([1, 2], [a[0], b[1]])
    with pytest.raises(ValueError, match="threshold 4 is not between 1 and the number of shares, 3"):
        split(bytes(16), 4, 3)


@given(st.integers(3, 60), st.integers(1, 12))
def test_the_graph_is_regular_and_mutual(n: int, half: int) -> None:
    names = tuple(sorted(f"hospital {i}" for i in range(n)))
    graph = graph_of(names, 0.55, 2 * half)
    degree = min(2 * half, n - 1)
    for name, neighbours in graph.neighbours.items():
        assert len(set(neighbours)) == len(neighbours) == degree
        assert list(neighbours) == sorted(neighbours)
        assert all(name in graph.neighbours[other] for other in neighbours)
        assert name not in neighbours
    assert degree / 2 < graph.threshold <= degree


def test_the_number_of_neighbours_keeps_what_it_promises() -> None:
    """Against the frequency in simulated draws, at probabilities that can be simulated; and it grows like log n."""
    degrees = {n: neighbours_needed(n, 0.55, 0.05, 0.1) for n in (10, 45, 500, 5000)}
    assert degrees[10] == 9
    assert degrees[45] < degrees[500] < degrees[5000] < 5 * degrees[45]
    k = degrees[500]
    rng = np.random.default_rng(0)
    draws = rng.hypergeometric(25, 474, k, size=200_000), rng.hypergeometric(449, 50, k, size=200_000)
    assert draws[0].max() < needed(0.55, k) <= draws[1].min()


def test_how_often_the_ring_falls_apart_is_bounded() -> None:
    """Against random draws of who is gone, at a probability that can be simulated."""
    n, gone, k = 12, 6, 4
    rng, apart, names = np.random.default_rng(1), 0, tuple(f"{i:02}" for i in range(12))
    neighbours = graph_of(names, 0.55, k).neighbours
    for _ in range(2000):
        left = set(rng.choice(names, n - gone, replace=False).tolist())
        seen, ahead = set(), [min(left)]
        while ahead:
            if (name := ahead.pop()) not in seen:
                seen.add(name)
                ahead += [other for other in neighbours[name] if other in left]
        apart += seen != left
    assert 0 < apart / 2000 <= falls_apart(n, gone, k)
    assert falls_apart(45, 7, 12) == 0 < falls_apart(500, 75, 36) < 2.0**-40
