"""Cox perceptrons trained table by table in compiled code: forward, partial likelihood, gradient and optimizer by hand.

A table's weights, gradient and mini-batch stay in the processor's cache for a whole round, nothing is padded, and the
result of a table does not depend on which others are computed with it.

Weights lie as torch lays them out: per layer a matrix [out, in], then its biases; the last layer is one row without bias.
"""

from __future__ import annotations

import numpy as np
from numba import njit

RELU, SELU, TANH, ELU = range(4)
SGD, MOMENTUM, ADAM = range(3)
F32 = np.float32
_SELU_SCALE, _SELU_ALPHA = F32(1.0507009873554804934193349852946), F32(1.6732632423543772848170429916717)
_LOWEST = -600.0  # as models.survival.likelihood has it

# What may be reordered in float32 sums; not-a-number stays one, for the wall has to see it.
_SUMS = {"contract", "reassoc", "nsz"}


@njit(cache=True, fastmath=_SUMS)
def _add_product(a, a0, a_row, a_column, b, b0, c, c0, m, k, n):  # type: ignore[no-untyped-def]
    """c[m, n] += a[m, k] @ b[k, n] in flat arrays from the given offsets; two rows of c and of b at a time."""
    i = 0
    while i + 2 <= m:
        r0 = a0 + i * a_row
        r1 = r0 + a_row
        first, second = c[c0 + i * n : c0 + (i + 1) * n], c[c0 + (i + 1) * n : c0 + (i + 2) * n]
        j = 0
        while j + 2 <= k:
            x0, x1 = a[r0 + j * a_column], a[r0 + (j + 1) * a_column]
            y0, y1 = a[r1 + j * a_column], a[r1 + (j + 1) * a_column]
            p, q = b[b0 + j * n : b0 + (j + 1) * n], b[b0 + (j + 1) * n : b0 + (j + 2) * n]
            for o in range(n):
                first[o] += x0 * p[o] + x1 * q[o]
                second[o] += y0 * p[o] + y1 * q[o]
            j += 2
        if j < k:
            x0, y0 = a[r0 + j * a_column], a[r1 + j * a_column]
            p = b[b0 + j * n : b0 + (j + 1) * n]
            for o in range(n):
                first[o] += x0 * p[o]
                second[o] += y0 * p[o]
        i += 2
    if i < m:
        r0 = a0 + i * a_row
        first = c[c0 + i * n : c0 + (i + 1) * n]
        for j in range(k):
            x0 = a[r0 + j * a_column]
            p = b[b0 + j * n : b0 + (j + 1) * n]
            for o in range(n):
                first[o] += x0 * p[o]


@njit(cache=True, fastmath=_SUMS)
def _dot(a, a0, b, b0, n):  # type: ignore[no-untyped-def]
    total = F32(0)
    for i in range(n):
        total += a[a0 + i] * b[b0 + i]
    return total


@njit(cache=True)
def _activate(values, first, count, kind):  # type: ignore[no-untyped-def]
    """In place. Comparisons are such that not-a-number goes through."""
    if kind == RELU:
        for i in range(first, first + count):
            values[i] = F32(0) if values[i] < F32(0) else values[i]
    elif kind == TANH:
        for i in range(first, first + count):
            values[i] = np.tanh(values[i])
    else:
        scale = _SELU_SCALE if kind == SELU else F32(1)
        alpha = _SELU_ALPHA if kind == SELU else F32(1)
        for i in range(first, first + count):
            if values[i] < F32(0):
                values[i] = scale * alpha * F32(np.expm1(values[i]))
            else:
                values[i] = scale * values[i]


@njit(cache=True)
def _times_slope(slope, values, first, count, kind):  # type: ignore[no-untyped-def]
    """Multiply by the activation's derivative, given its output."""
    if kind == RELU:
        for i in range(first, first + count):
            slope[i] = slope[i] if values[i] > F32(0) else F32(0)
    elif kind == TANH:
        for i in range(first, first + count):
            slope[i] *= F32(1) - values[i] * values[i]
    else:
        scale = _SELU_SCALE if kind == SELU else F32(1)
        alpha = _SELU_ALPHA if kind == SELU else F32(1)
        for i in range(first, first + count):
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
def _forward(weights, widths, kind, x, rows, n, turned, acts, eta):  # type: ignore[no-untyped-def]
    """Activations of every layer, one after the other in `acts` ([n, width] each), and the output."""
    p = widths[0]
    for i in range(n):
        row = rows[i]
        for j in range(p):
            acts[i * p + j] = x[row, j]
    at, below = 0, 0
    for layer in range(1, len(widths) - 1):
        wide, out = widths[layer - 1], widths[layer]
        above = below + n * wide
        for o in range(out):
            for j in range(wide):
                turned[j * out + o] = weights[at + o * wide + j]
        bias = at + wide * out
        for i in range(n):
            for o in range(out):
                acts[above + i * out + o] = weights[bias + o]
        _add_product(acts, below, wide, 1, turned, 0, acts, above, n, wide, out)
        _activate(acts, above, n * out, kind)
        at, below = bias + out, above
    wide = widths[-2]
    for i in range(n):
        eta[i] = _dot(acts, below + i * wide, weights, at, wide)


@njit(cache=True)
def _backward(weights, widths, kind, n, acts, slopes, slope, gradient):  # type: ignore[no-untyped-def]
    """Gradient of the loss in all weights, from its slope in each patient's output."""
    gradient[:] = F32(0)
    at, below = 0, 0
    for layer in range(1, len(widths) - 1):
        at += widths[layer - 1] * widths[layer] + widths[layer]
        below += n * widths[layer - 1]
    wide = widths[-2]
    for i in range(n):
        g = F32(slope[i])
        for j in range(wide):
            gradient[at + j] += g * acts[below + i * wide + j]
            slopes[below + i * wide + j] = g * weights[at + j]
    for layer in range(len(widths) - 2, 0, -1):
        wide, out = widths[layer - 1], widths[layer]
        above, below = below, below - n * wide
        bias = at - out
        at = bias - wide * out
        _times_slope(slopes, acts, above, n * out, kind)
        for i in range(n):
            for o in range(out):
                gradient[bias + o] += slopes[above + i * out + o]
        _add_product(slopes, above, 1, out, acts, below, gradient, at, out, n, wide)
        if layer > 1:
            for i in range(n * wide):
                slopes[below + i] = F32(0)
            _add_product(slopes, above, out, 1, weights, at, slopes, below, n, out, wide)


@njit(cache=True)
def _sort(rows, n, flags):  # type: ignore[no-untyped-def]
    """Ascending, all different and below len(flags), which are all False before and after."""
    if n <= 48:
        for i in range(1, n):
            row, j = rows[i], i
            while j > 0 and rows[j - 1] > row:
                rows[j] = rows[j - 1]
                j -= 1
            rows[j] = row
        return
    for i in range(n):
        flags[rows[i]] = True
    found, row = 0, 0
    while found < n:
        if flags[row]:
            flags[row] = False
            rows[found] = row
            found += 1
        row += 1


@njit(cache=True, nogil=True)
def train(  # type: ignore[no-untyped-def]
    start,
    widths,
    kind,
    efron,
    mask,
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
    trained,
    losses,
):
    """Train a network of its own for each table in `which`, all from the weights `start`, shape (P,).

    Parameters
    ----------
    mask
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
    trained, losses
        Written to: shape (tables, P), and the mean loss of each table's steps.
    """
    largest, batch = 1, 1
    for j in range(len(which)):
        n = starts[which[j] + 1] - starts[which[j]]
        largest = max(largest, n)
        batch = max(batch, -(-n // max(per_pass[j], 1)))
    size = len(start)
    flags, rows = np.zeros(largest, dtype=np.bool_), np.empty(batch, dtype=np.int64)
    acts, slopes = np.empty(batch * widths.sum(), dtype=F32), np.empty(batch * widths.sum(), dtype=F32)
    turned = np.empty(size, dtype=F32)
    eta, hazard, slope = np.empty(batch), np.empty(batch), np.empty(batch)
    gradient, first, second = np.empty(size, dtype=F32), np.empty(size, dtype=F32), np.empty(size, dtype=F32)
    drawn = 0
    for j in range(len(which)):
        origin = starts[which[j]]
        n = starts[which[j] + 1] - origin
        weights = trained[j]
        weights[:] = start
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
                _sort(rows, count, flags)
                for i in range(count):
                    rows[i] += origin
            _forward(weights, widths, kind, x, rows, count, turned, acts, eta)
            loss += F32(_cox(eta, time, event, rows, count, efron, hazard, slope))
            _backward(weights, widths, kind, count, acts, slopes, slope, gradient)
            if decay > F32(0):
                for i in range(size):
                    gradient[i] += decay * mask[i] * weights[i]
            if proximal > F32(0):
                for i in range(size):
                    gradient[i] += proximal * (weights[i] - start[i])
            if len(corrections) > 0:
                for i in range(size):
                    gradient[i] += corrections[j, i]
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
                one, two = F32(1 - 0.9 ** (step + 1)), F32(1 - 0.999 ** (step + 1))
                for i in range(size):
                    first[i] = F32(0.9) * first[i] + F32(0.1) * gradient[i]
                    second[i] = F32(0.999) * second[i] + F32(0.001) * gradient[i] * gradient[i]
                    weights[i] -= rate * (first[i] / one) / (np.sqrt(second[i] / two) + F32(1e-8))
        if per_pass[j] > 1:
            drawn += -(-steps[j] // per_pass[j]) * n
        losses[j] = loss / steps[j] if steps[j] > 0 else np.nan


@njit(cache=True, nogil=True)
def measure(weights, widths, kind, efron, x, time, event, starts, which, losses, pairs):  # type: ignore[no-untyped-def]
    """Loss per patient, and concordant and comparable pairs, of one network on each table in `which`.

    Pairs are counted as `models.survival.concordance.concordance_counts` counts them.
    """
    largest = 1
    for j in range(len(which)):
        largest = max(largest, starts[which[j] + 1] - starts[which[j]])
    rows, acts = np.empty(largest, dtype=np.int64), np.empty(largest * widths.sum(), dtype=F32)
    turned = np.empty(len(weights), dtype=F32)
    eta, hazard, slope, risk = np.empty(largest), np.empty(largest), np.empty(largest), np.empty(largest)
    for j in range(len(which)):
        origin = starts[which[j]]
        n = starts[which[j] + 1] - origin
        if n == 0:
            losses[j] = np.nan
            continue
        for i in range(n):
            rows[i] = origin + i
        _forward(weights, widths, kind, x, rows, n, turned, acts, eta)
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
                if t == time[origin + case] and event[origin + i] or not np.isfinite(risk[i]):
                    continue
                comparable += 2
                higher = risk[case] - risk[i]
                concordant += (1 if higher > 1e-8 else 0) + (1 if higher >= -1e-8 else 0)
        pairs[j, 0], pairs[j, 1] = concordant / 2, comparable / 2
