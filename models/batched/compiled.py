"""Cox perceptrons trained table by table in compiled code: forward, partial likelihood, gradient and optimizer by hand.

A table's weights, gradient and mini-batch stay in the processor's cache for a whole round, nothing is padded, and the
result of a table does not depend on which others are computed with it.

Here weights lie per layer as a matrix [in, out], then its biases, hidden layers widened to a multiple of the vector
length by units that stay zero; the last layer is one row without bias. `layout` says where torch has each of them.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.batched.product import LANES, lowest_bit, product, transpose

RELU, SELU, TANH, ELU = range(4)
SGD, MOMENTUM, ADAM = range(3)
F32, U64 = np.float32, np.uint64
_SELU_SCALE, _SELU_ALPHA = F32(1.0507009873554804934193349852946), F32(1.6732632423543772848170429916717)
_LOWEST = -600.0  # as models.survival.likelihood has it

# What may be reordered in float32 sums; not-a-number stays one, for the wall has to see it.
_SUMS = {"contract", "reassoc", "nsz"}


def layout(widths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Padded widths, and for each weight here its place in torch's flat vector (-1 for padding).

    Parameters
    ----------
    widths
        Of the layers, from the input to the output.
    """
    padded = widths.copy()
    padded[1:-1] = -(-widths[1:-1] // LANES) * LANES
    parts, at = [], 0
    for layer in range(1, len(widths)):
        wide, out = widths[layer - 1], widths[layer]
        last = layer == len(widths) - 1
        places = np.full((padded[layer - 1], padded[layer]), -1)
        places[:wide, :out] = at + np.arange(out * wide).reshape(out, wide).T
        biases = np.full(0 if last else padded[layer], -1)
        at += out * wide
        if not last:
            biases[:out] = at + np.arange(out)
            at += out
        parts += [places.ravel(), biases]
    return padded, np.concatenate(parts)


@njit(cache=True, fastmath=_SUMS)
def _dot(a, b):  # type: ignore[no-untyped-def]
    total = F32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(cache=True)
def _activate(values, kind):  # type: ignore[no-untyped-def]
    """In place. Comparisons are such that not-a-number goes through."""
    if kind == RELU:
        for i in range(len(values)):
            value = values[i]
            values[i] = F32(0) if value < F32(0) else value
    elif kind == TANH:
        for i in range(len(values)):
            values[i] = np.tanh(values[i])
    else:
        scale = _SELU_SCALE if kind == SELU else F32(1)
        alpha = _SELU_ALPHA if kind == SELU else F32(1)
        for i in range(len(values)):
            if values[i] < F32(0):
                values[i] = scale * alpha * F32(np.expm1(values[i]))
            else:
                values[i] = scale * values[i]


@njit(cache=True)
def _times_slope(slope, values, kind):  # type: ignore[no-untyped-def]
    """Multiply by the activation's derivative, given its output."""
    if kind == RELU:
        for i in range(len(values)):
            slope[i] *= F32(values[i] > F32(0))  # no branch: which units are active nobody can predict
    elif kind == TANH:
        for i in range(len(values)):
            slope[i] *= F32(1) - values[i] * values[i]
    else:
        scale = _SELU_SCALE if kind == SELU else F32(1)
        alpha = _SELU_ALPHA if kind == SELU else F32(1)
        for i in range(len(values)):
            slope[i] *= scale if values[i] > F32(0) else values[i] + scale * alpha


@njit(cache=True)
def _cox(eta, time, event, rows, n, efron, hazard, slope):  # type: ignore[no-untyped-def]
    """Mean negative log partial likelihood of n patients and its slope in each; `rows` are theirs, latest first.

    The same arithmetic as `models.survival.likelihood`, tie group by tie group, in float64.
    """
    highest = -np.inf
    for i in range(n):
        if not eta[i] <= highest:
            highest = eta[i]
    total, value, first = 0.0, 0.0, 0
    for i in range(n):
        eta[i] = eta[i] - highest
        if eta[i] < _LOWEST:
            eta[i] = _LOWEST
        hazard[i] = np.exp(eta[i])
    while first < n:  # risk sets grow from the latest time on
        last, tied, events = first, 0.0, 0
        while last < n and time[rows[last]] == time[rows[first]]:
            total += hazard[last]
            if event[rows[last]]:
                tied += hazard[last]
                events += 1
            last += 1
        inverse, spared, nth = 0.0, 0.0, 0
        for i in range(first, last):
            if event[rows[i]]:
                fraction = nth / events if efron else 0.0
                denominator = total - fraction * tied
                value += eta[i] - np.log(denominator)
                inverse += 1.0 / denominator
                spared += fraction / denominator
                nth += 1
        for i in range(first, last):  # kept there until the sums over earlier times are known
            eta[i] = inverse
            slope[i] = spared
        first = last
    later, last = 0.0, n - 1
    while last >= 0:
        first = last
        while first > 0 and time[rows[first - 1]] == time[rows[last]]:
            first -= 1
        later += eta[last]
        for i in range(first, last + 1):
            if event[rows[i]]:
                slope[i] = -(1.0 - hazard[i] * (later - slope[i])) / n
            else:
                slope[i] = hazard[i] * later / n
        last = first - 1
    return -value / n


@njit(cache=True)
def _forward(weights, widths, kind, x, rows, n, acts, eta):  # type: ignore[no-untyped-def]
    """Activations of every layer, one after the other in `acts` ([n, width] each), and the output."""
    p = widths[0]
    for i in range(n):
        row = rows[i]
        for j in range(p):
            acts[i * p + j] = x[row, j]
    at, below = 0, 0
    for layer in range(1, len(widths) - 1):
        wide, out = widths[layer - 1], widths[layer]
        above, bias = below + n * wide, at + wide * out
        product(weights, bias, 0, acts, below, wide, 1, weights, at, acts, above, n, wide, out)
        _activate(acts[above : above + n * out], kind)  # a slice: its indices are known not to be negative
        at, below = bias + out, above
    wide = widths[-2]
    for i in range(n):
        eta[i] = _dot(acts[below + i * wide : below + i * wide + wide], weights[at : at + wide])


@njit(cache=True)
def _backward(weights, widths, kind, n, acts, slope, zeros, turned, slopes, gradient):  # type: ignore[no-untyped-def]
    """Gradient of the loss in all weights, from its slope in each patient's output.

    `zeros` ends with a one; `turned` and `slopes` are scratch.
    """
    at, below = 0, 0
    for layer in range(1, len(widths) - 1):
        at += widths[layer - 1] * widths[layer] + widths[layer]
        below += n * widths[layer - 1]
    wide, one = widths[-2], len(zeros) - 1
    product(zeros, 0, 0, slope, 0, 0, 1, acts, below, gradient, at, 1, n, wide)
    if len(widths) > 2:
        product(zeros, 0, 0, slope, 0, 1, 0, weights, at, slopes, below, n, 1, wide)
    for layer in range(len(widths) - 2, 0, -1):
        wide, out = widths[layer - 1], widths[layer]
        above, below = below, below - n * wide
        bias = at - out
        at = bias - wide * out
        _times_slope(slopes[above : above + n * out], acts[above : above + n * out], kind)
        product(zeros, 0, 0, zeros, one, 0, 0, slopes, above, gradient, bias, 1, n, out)
        product(zeros, 0, 0, acts, below, 1, wide, slopes, above, gradient, at, wide, n, out)
        if layer > 1:
            transpose(weights, at, wide, out, turned, 0)
            product(zeros, 0, 0, slopes, above, out, 1, turned, 0, slopes, below, n, out, wide)


@njit(cache=True)
def _sort(rows, n, bits):  # type: ignore[no-untyped-def]
    """Ascending, all different and below 64 · len(bits), which are all zero before and after.

    Without comparisons, whose outcomes no processor could predict.
    """
    for i in range(n):
        bits[rows[i] >> 6] |= U64(1) << U64(rows[i] & 63)
    found = 0
    for word in range(len(bits)):
        left = bits[word]
        bits[word] = U64(0)
        while left:
            rows[found] = word * 64 + np.int64(lowest_bit(left))
            left &= left - U64(1)
            found += 1


@njit(cache=True, nogil=True)
def train(  # type: ignore[no-untyped-def]
    torch_start,
    widths,
    places,
    kind,
    efron,
    torch_mask,
    x,
    time,
    event,
    place,
    starts,
    which,
    steps,
    per_pass,
    orders,
    optimizer,
    rate,
    momentum,
    decay,
    proximal,
    clip,
    corrections,
    scale,
    changes,
    losses,
):
    """Train a network of its own for each table in `which`, all from the weights `torch_start`, shape (P,).

    Parameters
    ----------
    widths, places
        See `layout`.
    torch_mask
        1 for weights, 0 for biases: what `decay` acts on, shape (P,).
    x, time, event, place, starts
        See `models.batched.tables.Tables`.
    steps, per_pass
        Gradient steps of each table, and those in one pass over its patients.
    orders
        Shuffled patients of each table and pass, end to end; empty if every table trains on full batches.
    clip
        Longest gradient; not positive for no limit.
    corrections
        Added to every gradient, shape (tables, P) or (0, P).
    scale
        What each table's change is multiplied by, shape (tables,).
    changes, losses
        Written to: trained weights less `torch_start` in float64, shape (tables, P), and the mean loss of each table's
        steps.
    """
    largest, batch = 1, 1
    for j in range(len(which)):
        n = starts[which[j] + 1] - starts[which[j]]
        largest = max(largest, n)
        batch = max(batch, -(-n // max(per_pass[j], 1)))
    size = len(places)
    start, mask, shift = np.zeros(size, dtype=F32), np.zeros(size, dtype=F32), np.zeros(size, dtype=F32)
    here = np.empty(len(torch_start), dtype=np.int64)  # the inverse of places
    for i in range(size):
        if places[i] >= 0:
            here[places[i]] = i
            start[i], mask[i] = torch_start[places[i]], torch_mask[places[i]]
    weights = np.empty(size, dtype=F32)
    bits, rows = np.zeros(largest // 64 + 1, dtype=U64), np.empty(batch, dtype=np.int64)
    acts, slopes = np.empty(batch * widths.sum(), dtype=F32), np.empty(batch * widths.sum(), dtype=F32)
    turned = np.empty(size, dtype=F32)
    eta, hazard, slope = np.empty(batch), np.empty(batch), np.empty(batch, dtype=F32)
    zeros = np.zeros(widths.max() + 1, dtype=F32)
    zeros[-1] = F32(1)
    gradient, first, second = np.empty(size, dtype=F32), np.empty(size, dtype=F32), np.empty(size, dtype=F32)
    drawn = 0
    for j in range(len(which)):
        origin = starts[which[j]]
        n = starts[which[j] + 1] - origin
        weights[:] = start
        if len(corrections) > 0:
            for i in range(size):
                if places[i] >= 0:
                    shift[i] = corrections[j, places[i]]
        first[:] = F32(0)
        second[:] = F32(0)
        loss, base, extra = 0.0, 0, 0
        if per_pass[j] > 0:
            base, extra = n // per_pass[j], n % per_pass[j]
        for step in range(steps[j]):
            part = step % per_pass[j]
            count = base + (1 if part < extra else 0)
            if per_pass[j] == 1:
                for i in range(n):
                    rows[i] = origin + i
            else:
                low = drawn + (step // per_pass[j]) * n + part * base + min(part, extra)
                for i in range(count):
                    rows[i] = place[origin + orders[low + i]]
                _sort(rows, count, bits[: n // 64 + 1])
                for i in range(count):
                    rows[i] += origin
            _forward(weights, widths, kind, x, rows, count, acts, eta)
            loss += float(_cox(eta, time, event, rows, count, efron, hazard, slope))
            _backward(weights, widths, kind, count, acts, slope, zeros, turned, slopes, gradient)
            if decay > F32(0):
                for i in range(size):
                    gradient[i] += decay * mask[i] * weights[i]
            if proximal > F32(0):
                for i in range(size):
                    gradient[i] += proximal * (weights[i] - start[i])
            if len(corrections) > 0:
                for i in range(size):
                    gradient[i] += shift[i]
            if clip > 0:
                length = 0.0
                for i in range(size):
                    length += np.float64(gradient[i]) * gradient[i]
                shrink = clip / (np.sqrt(length) + 1e-12)
                if shrink < 1:
                    for i in range(size):
                        gradient[i] *= F32(shrink)
            if optimizer == SGD:
                for i in range(size):
                    weights[i] -= rate * gradient[i]
            elif optimizer == MOMENTUM:
                for i in range(size):
                    first[i] = momentum * first[i] + gradient[i]
                    weights[i] -= rate * first[i]
            else:
                unbias, unbias2 = F32(1 - 0.9 ** (step + 1)), F32(1 - 0.999 ** (step + 1))
                for i in range(size):
                    first[i] = F32(0.9) * first[i] + F32(0.1) * gradient[i]
                    second[i] = F32(0.999) * second[i] + F32(0.001) * gradient[i] * gradient[i]
                    weights[i] -= rate * (first[i] / unbias) / (np.sqrt(second[i] / unbias2) + F32(1e-8))
        if per_pass[j] > 1:
            drawn += -(-steps[j] // per_pass[j]) * n
        losses[j] = loss / steps[j] if steps[j] > 0 else np.nan
        change, factor = changes[j], scale[j]
        for i in range(len(here)):
            change[i] = factor * (np.float64(weights[here[i]]) - np.float64(torch_start[i]))


@njit(cache=True, nogil=True)
def measure(torch_weights, widths, places, kind, efron, x, time, event, starts, which, losses, pairs):  # type: ignore[no-untyped-def]
    """Loss per patient, and concordant and comparable pairs, of one network on each table in `which`.

    Pairs are counted as `models.survival.concordance.concordance_counts` counts them.
    """
    largest = 1
    for j in range(len(which)):
        largest = max(largest, starts[which[j] + 1] - starts[which[j]])
    weights = np.zeros(len(places), dtype=F32)
    for i in range(len(places)):
        if places[i] >= 0:
            weights[i] = torch_weights[places[i]]
    rows, acts = np.empty(largest, dtype=np.int64), np.empty(largest * widths.sum(), dtype=F32)
    eta, hazard, slope, risk = np.empty(largest), np.empty(largest), np.empty(largest, dtype=F32), np.empty(largest)
    for j in range(len(which)):
        origin = starts[which[j]]
        n = starts[which[j] + 1] - origin
        if n == 0:
            losses[j] = np.nan
            continue
        for i in range(n):
            rows[i] = origin + i
        _forward(weights, widths, kind, x, rows, n, acts, eta)
        risk[:n] = eta[:n]
        losses[j] = F32(_cox(eta, time, event, rows, n, efron, hazard, slope))
        concordant, comparable = 0, 0
        for case in range(n):  # comparable: whoever is later, or censored at the same time
            if not event[origin + case] or not np.isfinite(risk[case]):
                continue
            for i in range(n):
                t = time[origin + i]
                if t < time[origin + case]:
                    break  # sorted by descending time
                if (t == time[origin + case] and event[origin + i]) or not np.isfinite(risk[i]):
                    continue
                comparable += 2
                higher = risk[case] - risk[i]
                concordant += (1 if higher > 1e-8 else 0) + (1 if higher >= -1e-8 else 0)
        pairs[j, 0], pairs[j, 1] = concordant / 2, comparable / 2
