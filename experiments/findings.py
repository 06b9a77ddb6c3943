"""What a run found, in sentences: each is computed, and left out where its numbers are missing.

A difference whose interval holds 0 is called not distinguishable, whatever its sign.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

from experiments.reading import (
    HARRELL,
    Interval,
    arms,
    centralized_arm,
    find,
    interval,
    main_arm,
    mapping,
    number,
    sequence,
)
from experiments.wording import signed_words, words

Results = dict[str, Any]


def summary(results: Results) -> list[str]:
    """What the run found, as sentences in reading order; a sentence without numbers is left out."""
    main, pooled = main_arm(results), centralized_arm(results)
    sentences = [
        _reached(results, main),
        _privacy_words(results, main),
        _against_pooled(results, main, pooled),
        _against_alone(results),
        _small_centers(results),
        _against_scores(results, main),
        _blocks_words(results),
        _elsewhere(results, main),
    ]
    return [sentence for sentence in sentences if sentence]


def verdict(difference: Interval, *, lower_is_better: bool = False) -> str:
    """``better``, ``worse`` or ``not distinguishable``, for a minus b."""
    if difference.holds_zero:
        return "not distinguishable"
    return "better" if (difference.low > 0) != lower_is_better else "worse"


def _reached(results: Results, main: str | None) -> str:
    value = interval(results, "arms", main or "", "pooled", HARRELL)
    if main is None or not value.known:
        best = centralized_arm(results)
        value = interval(results, "arms", best or "", "pooled", HARRELL)
        return f"The pooled model ({best}) reaches a Harrell C of {words(value)}." if value.known else ""
    n, events = (number(find(results, "arms", main, "pooled", HARRELL, key)) for key in ("n", "events"))
    size = f", tested on {n:,.0f} patients with {events:,.0f} events" if n > 0 and events >= 0 else ""
    centers = len(mapping(results, "dataset", "centers"))
    across = f" across {centers} centers" if centers > 1 else ""
    return f"The federated model ({main}) reaches a Harrell C of {words(value)}{across}{size}."


def _privacy_words(results: Results, main: str | None) -> str:
    spent = mapping(results, "privacy", "arms", main or "")
    epsilon, delta, fits = (number(spent.get(key)) for key in ("epsilon", "delta", "fits"))
    if not epsilon > 0:
        return ""
    whole = number(find(results, "privacy", "epsilon_of_run"))
    return (
        f"A fit of it is differentially private for one {spent['unit']} with epsilon {epsilon:.3g} at delta {delta:g}, "
        f"which covers {spent['covers']}; all fits of this run together cost epsilon {whole:.3g} ({fits:.0f} of this "
        "arm). The arms beside it, and these figures themselves, are of pooled patients and not private."
    )


def _against_pooled(results: Results, main: str | None, pooled: str | None) -> str:
    reached = interval(results, "arms", pooled or "", "pooled", HARRELL)
    if main is None or pooled is None or not reached.known:
        return ""
    start = f"Training on the pooled patients ({pooled}) reaches {words(reached)}"
    difference = _difference(results, main, pooled)
    if not difference.known:
        return f"{start}; no paired difference between the two was computed."
    said = {
        "better": "federated is better than pooled",
        "worse": "federated is worse than pooled",
        "not distinguishable": "the two are not distinguishable",
    }[verdict(difference)]
    return f"{start}; the paired difference, federated minus pooled, is {signed_words(difference)}: {said}."


def _against_alone(results: Results) -> str:
    alone = [value.mean for arm in arms(results, "local").values() if (value := interval(arm, "pooled", HARRELL)).known]
    if not alone:
        return ""
    if len(alone) == 1:
        said = f"One center alone reaches {alone[0]:.3f} on everybody's patients"
    else:
        said = (
            f"The median of {len(alone)} centers training alone reaches {statistics.median(alone):.3f} "
            f"(from {min(alone):.3f} to {max(alone):.3f}) on everybody's patients"
        )
    gains = [interval(row, "everybody", "gain") for row in sequence(results, "gain", "centers")]
    verdicts = [verdict(gain) for gain in gains if gain.known]
    if not verdicts:
        return f"{said}."
    better, worse, neither = (verdicts.count(word) for word in ("better", "worse", "not distinguishable"))
    return (
        f"{said}; compared with each center's own model, the federated one is better for {better} of {len(verdicts)}, "
        f"worse for {worse} and not distinguishable for {neither}."
    )


def _small_centers(results: Results) -> str:
    slope = interval(results, "gain", "slope")
    if not slope.known:
        return ""
    said = {
        "worse": "confirmed, the gain falls with size",
        "better": "contradicted, the gain grows with size",
        "not distinguishable": "not confirmed, the trend is not distinguishable from none",
    }[verdict(slope)]
    return (
        "Do small centers gain most? Per tenfold size of a center the gain in Harrell C changes by "
        f"{signed_words(slope)}: {said}."
    )


def _against_scores(results: Results, main: str | None) -> str:
    parts = []
    for name, arm in arms(results, "score").items():
        value = interval(arm, "pooled", HARRELL)
        if not value.known:
            continue
        part = f"{name} reaches {words(value)}{_on(results, name, main)}"
        difference = _difference(results, main or "", name)
        if difference.known:
            said = verdict(difference).replace("not ", "federated is not ", 1)
            said = said if said.startswith("federated") else f"federated is {said}"
            part += f" (federated minus score {signed_words(difference)}: {said})"
        parts.append(part)
    return f"For comparison, {'; '.join(parts)}." if parts else ""


def _blocks_words(results: Results) -> str:
    """What each further block adds, and at how many centers all blocks together lose to one of them."""
    added = [
        f"{sequence(row, 'blocks')[-1]} {signed_words(gain)} ({verdict(gain)})"
        for row in sequence(results, "blocks", "steps")
        if (gain := interval(row, "gain", HARRELL)).known
    ]
    if not added:
        return ""
    said = f"Added one by one, blocks of features change Harrell's C by: {'; '.join(added)}."
    differences = [interval(row, "difference") for row in sequence(results, "blocks", "centers")]
    verdicts = [verdict(difference) for difference in differences if difference.bounded]
    if not verdicts:
        return said
    means = [
        f"{signed_words(mean)} on average where {words}"
        for kind, words in (("lacking", "a block is absent"), ("complete", "none is"))
        if (mean := interval(results, "blocks", "means", kind)).known
    ]
    return (
        f"{said} Against the single block that does best at a center, all together are worse at "
        f"{verdicts.count('worse')} of {len(verdicts)} centers and better at {verdicts.count('better')}"
        f"{': ' if means else ''}{', '.join(means)}."
    )


def _elsewhere(results: Results, main: str | None) -> str:
    parts = []
    for name, arm in arms(results, "left_out").items():
        if (value := interval(arm, "pooled", HARRELL)).known:
            parts.append(f"{words(value)}{_on(results, name, main)} ({name})")
    return f"At centers that took no part in training the model reaches {', '.join(parts)}." if parts else ""


def _on(results: Results, name: str, main: str | None) -> str:
    """On how many patients, where they are not those of the main arm."""
    n, all_n = (number(find(results, "arms", arm or "", "pooled", HARRELL, "n")) for arm in (name, main))
    return f" on {n:,.0f} patients" if n > 0 and n != all_n else ""


def _difference(results: Results, a: str, b: str) -> Interval:
    """Harrell's C of arm a minus arm b, whichever way round it was computed."""
    for row in sequence(results, "differences"):
        if find(row, "metric") == HARRELL:
            value = interval(row)
            if (find(row, "a"), find(row, "b")) == (a, b):
                return value
            if (find(row, "a"), find(row, "b")) == (b, a):
                return Interval(-value.mean, -value.high, -value.low)
    return Interval(math.nan, math.nan, math.nan)
