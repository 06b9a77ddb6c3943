"""Signatures: the vectors of RFC 8032, and what a forger would try."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from federation.privacy.secure import SecureAggregation
from federation.privacy.signing import BadSignature, Freshness, Rising, Seal, Signer, digest, verify

CONTENT = {"weights": np.arange(4.0), "text": "round", "nested": [1, (2.5, None, True), b"bytes"]}


def test_ed25519_of_rfc_8032_section_7_1() -> None:
    key = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    # pragma: allowlist nextline secret
    assert Signer(key=key).public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def test_what_was_signed_is_what_arrives() -> None:
    signer = Signer()
    seal = signer.sign("question", "run", 3, 7, CONTENT)
    verify(signer.public, seal, "question", CONTENT)
    for other in (replace(seal, run="other"), replace(seal, round=4), replace(seal, sequence=8)):
        with pytest.raises(BadSignature, match="is not what"):
            verify(signer.public, other, "question", CONTENT)
    with pytest.raises(BadSignature):
        verify(signer.public, seal, "answer", CONTENT)
    with pytest.raises(BadSignature):
        verify(Signer().public, seal, "question", CONTENT)
    with pytest.raises(BadSignature):
        verify(signer.public, replace(seal, signature=bytes(64)), "question", CONTENT)


def test_no_two_contents_have_one_digest() -> None:
    one = np.arange(4.0)
    changed = one.copy()
    changed[2] = np.nextafter(changed[2], 3)
    contents = [
        *(one, changed, one.astype(np.float32), one.reshape(2, 2), one.tolist(), one.view(np.int64)),
        *(["ab", "c"], ["a", "bc"], [["a"], "bc"], "abc", b"abc", {"a": "bc"}, {"ab": "c"}, [], {}, "", b"", None),
        *(0, False, 1, True, 1.0, -1, "1", [1], [[1]], [1, []], SecureAggregation(), SecureAggregation(0.6)),
    ]
    assert len({digest(content) for content in contents}) == len(contents)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(np.asfortranarray(one.reshape(2, 2))) == digest(one.reshape(2, 2))


@pytest.mark.parametrize("content", [object(), {1, 2}, np.array([print], dtype=object)])
def test_what_cannot_be_read_in_one_way_is_not_signed(content: object) -> None:
    with pytest.raises(TypeError, match="cannot be signed"):
        digest(content)


def test_a_question_passes_once_and_none_that_is_older(tmp_path: Path) -> None:
    numbers = Rising()
    first, second, third = (Seal("run", 0, next(numbers), b"") for _ in range(3))
    assert first.sequence < second.sequence < third.sequence
    fresh = Freshness(tmp_path / "last")
    fresh.require(second)
    for stale in (second, first):
        with pytest.raises(BadSignature, match="is a replay"):
            fresh.require(stale)
    with pytest.raises(BadSignature, match="is a replay"):
        Freshness(tmp_path / "last").require(second)  # after a restart
    Freshness(tmp_path / "last").require(third)


@pytest.mark.parametrize("text", ["", "17 or so", "-3", "1" * 19 + "\0"])
def test_a_damaged_number_of_the_last_question_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "Bonn.last").write_text(text)
    with pytest.raises(ValueError, match=r"Bonn\.last, line 1: .* is not the number of a question"):
        Freshness(tmp_path / "Bonn.last")


def test_a_key_is_kept_for_its_owner_alone_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "Bonn.key"
    signer = Signer(path)
    assert Signer(path).public == signer.public
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().hex()[:8] not in repr(signer)
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match=r"Bonn\.key: 5 bytes are no key, which has 32"):
        Signer(path)
