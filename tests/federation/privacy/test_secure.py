"""Every algorithm under secure aggregation is its bare self in fixed point, bit for bit."""

from __future__ import annotations

import json
import logging
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import federation
from federation.algorithm import _REGISTRY, Algorithm, Roster, run
from federation.center import Center, Question
from federation.contribution import Contribution
from federation.in_process import InProcessFederation, question_for
from federation.policy import DisclosurePolicy, read_audit
from federation.preprocessing import FitTimeGrid
from federation.privacy.aggregator import sum_of
from federation.privacy.dp.statistics import Noisy
from federation.privacy.dp.training import PrivateAveraging
from federation.privacy.fixed_point import FixedPoint
from federation.privacy.party import Party, ProtocolError
from federation.privacy.secure import FixedPointSum, Parties, SecureAggregation, with_rows
from federation.quorum import Quorum, QuorumError
from federation.splits import Split
from federation.state import State
from federation.stratification import PrivateMixture
from tests.actors import test_stratification as lesions
from tests.actors.hospitals import SCHEMA, averaging, federation_of, patients
from tests.actors.test_backends import algorithms, assert_same
from tests.federation.hospitals import federation_of as federation_of_three
from tests.federation.privacy.dp.test_training import private
from tests.federation.test_algorithm import EXAMPLES

SPLIT = Split(seed=1, n_folds=4, validation=0.2)
SETTINGS = SecureAggregation()


class Bare(InProcessFederation):
    """Sums in the same fixed point without masks."""

    def ask(self, algorithm: Algorithm, state: State) -> Contribution:
        question = question_for(algorithm, state, self.task, self.split, self.roster, self.checkpoint_every)
        fixed = SETTINGS.fixed_point
        n = len(self.centers)
        question = replace(question, masked="not", sharers=SETTINGS.sharers(n))  # so that noise is shared all the same
        total, failed = self._group.add_up(question, (), lambda: FixedPointSum(fixed, n, algorithm.rows_of_centers))
        assert not failed
        assert total.words is not None
        assert total.layout is not None
        found = sum_of(fixed.decode(total.words), total.layout)
        return with_rows(found, algorithm.rows_of_centers, n)


def centers(policy: DisclosurePolicy | None = None, directory: Path | None = None) -> list[Center]:
    return [Center(s.name, s.source, s.position, SCHEMA, policy, directory) for s in federation_of()]


def everything() -> dict[str, tuple[Algorithm, Any]]:
    """Every algorithm, and who answers it."""
    mixture = lesions.FederatedMixture(lesions.GENES, rounds=6, annealing=2)
    strata = [Center(s.name, s.source, s.position, lesions.SCHEMA) for s in lesions.SPECS]
    return {name: (algorithm, centers()) for name, algorithm in algorithms().items()} | {"mixture": (mixture, strata)}


@pytest.mark.parametrize("name", everything())
def test_masks_change_no_bit(name: str) -> None:
    algorithm, who = everything()[name]
    split = SPLIT if name != "mixture" else Split()
    masked = run(algorithm, InProcessFederation(who, 5, split, name, secure_aggregation=SETTINGS))
    algorithm, who = everything()[name]
    assert_same(masked, run(algorithm, Bare(who, 5, split, name)))
    plain = run(algorithm, InProcessFederation(everything()[name][1], 5, split, name))
    for key in plain.keys() - {"history", "trace"}:
        if np.issubdtype(plain[key].dtype, np.floating):
            np.testing.assert_allclose(masked[key], plain[key], rtol=1e-4, atol=1e-5, err_msg=key)


def registered() -> list[str]:
    """Every algorithm of the project, whoever wrote it."""
    for module in pkgutil.walk_packages(federation.__path__, "federation."):
        import_module(module.name)
    return sorted(name for name, cls in _REGISTRY.items() if cls.__module__.startswith("federation."))


WITH_NOISE: dict[str, Callable[[], Algorithm]] = {
    "noisy": lambda: Noisy.of(FitTimeGrid(horizon=5.0, cells=20), 2.0, distributed=True),
    "private-gradients": lambda: private(noise=0.5, distributed=True),
    "private-averaging": lambda: private(PrivateAveraging, noise=0.5, distributed=True),
    "private-mixture": lambda: PrivateMixture(("mutated",), rounds=5, components=7, most=1, distributed=True),
}


@pytest.mark.parametrize("name", registered())
def test_every_registered_algorithm_is_its_bare_self_under_masks_or_refused(name: str) -> None:
    """A new algorithm fails here until it has an example."""
    if name == "ctgan":
        pytest.importorskip("ctgan")
    algorithm = (EXAMPLES | WITH_NOISE)[name]()

    def hospitals() -> list[Center]:
        policy = DisclosurePolicy(secure_noise=False, simulation=True)  # noise that can be repeated
        return list(federation_of_three(policy=policy).centers)

    masked = InProcessFederation(hospitals(), 5, SPLIT, name, secure_aggregation=SETTINGS)
    if algorithm.needs_single_contributions:
        with pytest.raises(ValueError, match="has to see each center's contribution by itself"):
            run(algorithm, masked)
        return
    assert_same(run(algorithm, masked), run(algorithm, Bare(hospitals(), 5, SPLIT, name)))


def test_a_row_of_a_center_is_not_its_own_any_more() -> None:
    """What averaging reports by center would be bare numbers in the sum."""
    algorithm = averaging(rounds=2)
    history = run(algorithm, InProcessFederation(centers(), secure_aggregation=SETTINGS))["history"]
    plain = run(algorithm, InProcessFederation(centers()))["history"]
    assert (plain[0, :, 0] > 0).all()
    assert not history[:, 1:].any()
    np.testing.assert_allclose(history[:, 0], plain.sum(axis=1), rtol=1e-9)


def test_an_algorithm_that_needs_single_contributions_is_refused() -> None:
    class Selfish(type(averaging())):  # type: ignore[misc]
        needs_single_contributions = True

    algorithm = Selfish(**{k: v for k, v in vars(averaging()).items()})
    with pytest.raises(ValueError, match="has to see each center's contribution by itself, which secure aggregation"):
        run(algorithm, InProcessFederation(centers(), secure_aggregation=SETTINGS))


def test_two_centers_would_see_each_other() -> None:
    with pytest.raises(QuorumError, match="2 centers take part, 3 are needed"):
        run(averaging(), InProcessFederation(centers()[:2], secure_aggregation=SETTINGS))


def test_a_number_out_of_range_is_the_centers_refusal() -> None:
    narrow = replace(SETTINGS, fixed_point=FixedPoint(1, 39))
    cohort = patients("Aachen")
    cohort.values[3, 1] = 1e6
    who = [Center("Aachen", lambda: cohort, 0, SCHEMA), *centers()[1:]]
    federation = InProcessFederation(who, quorum=Quorum(1.0), secure_aggregation=narrow)
    with pytest.raises(QuorumError, match=r"Aachen: '.*': a number does not fit: .* 3 centers of numbers"):
        run(algorithms()["preprocessor"], federation)


def test_the_audit_log_says_that_it_was_masked(tmp_path: Path) -> None:
    run(averaging(rounds=1), InProcessFederation(centers(directory=tmp_path), secure_aggregation=SETTINGS))
    for entries in read_audit(tmp_path / "audit").values():
        assert entries
        assert all(entry["masked"].startswith("run ") for entry in entries)


def test_a_center_may_insist_on_masks() -> None:
    strict = DisclosurePolicy(masked_only=True)
    with pytest.raises(QuorumError, match="masked_only"):
        run(averaging(), InProcessFederation(centers(strict)))
    run(averaging(rounds=1), InProcessFederation(centers(strict), secure_aggregation=SETTINGS))
    question = json.loads(question_of().to_json())
    assert Question.from_json(json.dumps(question | {"masked": "so it says"}), {}).masked == ""


def question_of() -> Question:
    algorithm = averaging()
    state = algorithm.start(Roster(("a",)))
    return question_for(algorithm, state, "task", SPLIT, Roster(("a",)), 1)


def test_a_center_that_fails_on_the_way_is_a_dropout(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Center):
        def answer(self, question: Question) -> Contribution:
            raise OSError("its disk is broken")

    who = [*centers(), *(Center(f"more {i}", centers()[i].__dict__["_source"], 3 + i, SCHEMA) for i in range(3))]
    who[1] = Broken("Bonn", centers()[1].__dict__["_source"], 1, SCHEMA)
    with caplog.at_level(logging.DEBUG, "haemfed"):
        found = run(algorithms()["preprocessor"], InProcessFederation(who, secure_aggregation=SETTINGS))
    rest = [replace_position(c, i) for i, c in enumerate(c for c in who if c.name != "Bonn")]
    for key, array in run(algorithms()["preprocessor"], InProcessFederation(rest)).items():
        if array.dtype == np.float64:
            np.testing.assert_allclose(found[key], array, rtol=1e-12, err_msg=key)
    assert "its disk is broken" in caplog.text


def test_a_run_that_stops_at_a_dropout_reveals_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the same question, asked again when the center is back, would say by the difference what is the center's."""
    revealed: list[str] = []
    reveal = Parties.reveal

    def heard(self: Parties, session: str, *rest: Any) -> Any:
        revealed.append(session)
        return reveal(self, session, *rest)

    class Away(Center):
        def answer(self, question: Question) -> Contribution:
            raise TimeoutError

    monkeypatch.setattr(Parties, "reveal", heard)
    for quorum, count in ((Quorum(on_dropout="stop"), 0), (Quorum(), 1)):
        who = [*centers(), Away("Dorsten", lambda: patients("Bonn"), 3, SCHEMA)]
        federation = InProcessFederation(who, quorum=quorum, secure_aggregation=SETTINGS)
        algorithm = algorithms()["preprocessor"]
        if count == 0:
            with pytest.raises(QuorumError, match="stopped, as configured"):
                federation.ask(algorithm, algorithm.start(federation.roster))
        else:
            federation.ask(algorithm, algorithm.start(federation.roster))
        assert len(revealed) == count


def replace_position(center: Center, position: int) -> Center:
    center.position = position
    return center


def test_settings_are_checked() -> None:
    wrong: Mapping[str, Any]
    for wrong, message in (
        ({"threshold": 0.5}, "threshold is 0.5; it is a fraction above 0.5"),
        ({"neighbours": 3}, "neighbours is 3; it is an even number"),
        ({"dropout": 0.7}, "dropout is 0.7; it is a fraction below 0.5"),
    ):
        with pytest.raises(ValueError, match=message):
            SecureAggregation(**wrong)


def test_steps_of_a_host_that_knows_nothing_of_the_session() -> None:
    parties = Parties(InProcessFederation(centers())._group, SETTINGS)
    keys, failed = parties.join(question_of(), ["Bonn"])
    assert failed == {}
    assert sorted(keys) == ["Aachen", "Celle"]
    anew = {name: Party(name).public for name in ("Aachen", "Bonn")}
    shares, abstained = parties.share("session", keys | anew, 1)
    assert (shares.keys(), abstained) == ({"Celle"}, {})
    with pytest.raises(ProtocolError, match="was sent a public key that is none: 0000"):
        parties.share("other", keys | {"Bonn": bytes(32)}, 1)
