"""Chooses the scales from photos, and rounds the weights so that what rounding did before them is made up for.

Activations: for each tensor the scale that makes the squared error of rounding and clipping least, over all values that
are not zero (zero is exact in any scale). Tensors that a concatenation joins share one.

Weights, layer by layer in order of execution, on what the quantized layers before really put out: first the real-valued
weights that bring the layer's sums nearest to the float network's (least squares, held near the published weights by a
ridge), then rounding one input after the other, each rounding's error spread over the inputs that are still to come
(GPTQ), then a bias that makes up for the mean error. What else was tried, and what it gave, is in the model card.
"""

import numpy as np

from recipe import network, quantized

BINS = 8192
BATCH = 10
# Of the largest value seen: the candidates for what 255 steps reach.
FRACTIONS = np.linspace(0.3, 1.0, 71)
# Of the mean variance of a layer's inputs: how firmly the published weights are held.
RIDGE = 0.01


def histograms(weights, rgb):
    """Group -> (largest value, how many values fall into each of BINS bins up to it)."""
    batches = [rgb[i : i + BATCH] for i in range(0, len(rgb), BATCH)]
    largest, counts = {}, {}

    def find_largest(step, _columns, y):
        largest[step.group] = max(largest.get(step.group, 0.0), float(y.max()))

    def count(step, _columns, y):
        found, _ = np.histogram(y, bins=BINS, range=(0, largest[step.group]))
        counts[step.group] = counts.get(step.group, 0) + found

    for look in (find_largest, count):
        for batch in batches:
            network.run_float(weights, batch, look)
    return {group: (largest[group], counts[group]) for group in largest}


def least_error_scale(largest, counts):
    """The scale whose steps 0..255 stand for the values with the least squared error."""
    values = (np.arange(BINS) + 0.5) * largest / BINS
    counts = counts.copy()
    counts[0] = 0

    def error(scale):
        return (counts * (np.clip(np.rint(values / scale), 0, 255) * scale - values) ** 2).sum()

    return min((largest * fraction / 255 for fraction in FRACTIONS), key=error)


def calibrate(weights, rgb):
    """(layer name -> Layer, group -> scale) for photos N x 227 x 227 x 3 of RGB bytes."""
    scales = {"input": np.float32(1.0)}
    for group, (largest, counts) in histograms(weights, rgb).items():
        scales[group] = np.float32(least_error_scale(largest, counts))
    of = network.groups() | {"input": "input"}
    # Real values of the float network, steps of the quantized one: all photos' tensor, layer by layer.
    real, steps, layers = {"input": rgb.astype(np.float32)}, {"input": rgb.astype(np.float32)}, {}
    last_use = {source: step for step in network.steps() for source in _sources(step)}
    for step in network.steps():
        if isinstance(step, network.Conv):
            kernel, bias = weights[step.name]
            input_scale = scales[of[step.source]]
            moments = Moments.of(step, kernel, real[step.source], steps[step.source], input_scale)
            layers[step.name] = fit(kernel, bias, moments, input_scale)
            outputs = [
                _both(step, kernel, bias, layers[step.name], r, s, input_scale, scales[step.group])
                for r, s in zip(_batches(real[step.source]), _batches(steps[step.source]))
            ]
            real[step.name], steps[step.name] = (np.concatenate(part) for part in zip(*outputs))
        else:
            for tensors in (real, steps):
                given = [tensors[source] for source in _sources(step)]
                is_pool = isinstance(step, network.Pool)
                tensors[step.name] = network.pool(given[0]) if is_pool else np.concatenate(given, axis=-1)
        for source in _sources(step):
            if last_use[source] is step:
                del real[source], steps[source]
    return layers, scales


class Moments:
    """Of a layer's inputs over all photos and places: means, and second moments about them.

    `real` is the float network's input, `found` the quantized one's in real values; both rows of K values. `found_found`
    and `found_real` are K x K.
    """

    def __init__(self, real, found, found_found, found_real):
        self.real, self.found = real, found
        self.found_found, self.found_real = found_found, found_real

    @staticmethod
    def of(step, kernel, real, steps, scale):
        """Gathers them batch by batch."""
        size, count = kernel.shape[0], 0
        sums = [0.0, 0.0, 0.0, 0.0]
        for real_batch, step_batch in zip(_batches(real), _batches(steps)):
            r, _ = network.columns(real_batch, size, step.stride, step.padded)
            f, _ = network.columns(step_batch, size, step.stride, step.padded)
            f = f * scale
            count += len(f)
            parts = (r.sum(0, dtype=np.float64), f.sum(0, dtype=np.float64), f.T @ f, f.T @ r)
            sums = [total + part for total, part in zip(sums, parts)]
        real, found, found_found, found_real = (total / count for total in sums)
        return Moments(real, found, found_found - np.outer(found, found), found_real - np.outer(found, real))


def fit(kernel, bias, moments, input_scale):
    """A layer of whole numbers whose sums are near the float layer's."""
    size = moments.found_found.shape[0]
    published = kernel.reshape(size, -1).astype(np.float64)
    ridge = RIDGE * np.trace(moments.found_found) / size * np.eye(size)
    wanted = np.linalg.solve(moments.found_found + ridge, moments.found_real @ published + ridge @ published)
    kernel_scales = np.float32(np.abs(wanted).max(axis=0) / 127)
    rounded = round_in_turn(wanted, kernel_scales.astype(np.float64), moments.found_found + ridge)
    bias = bias + moments.real @ published - moments.found @ (rounded * kernel_scales)
    bias_steps = np.rint(bias / (np.float64(input_scale) * kernel_scales))
    return quantized.Layer(rounded.reshape(kernel.shape).astype(np.float32), kernel_scales, bias_steps)


def round_in_turn(weights, scales, moments):
    """K x outputs -> whole numbers -127..127, the error of each row spread over the rows after it (GPTQ)."""
    # The liveliest inputs first: their errors have the most rows left to go to.
    order = np.argsort(-np.diag(moments), kind="stable")
    spread = np.linalg.cholesky(np.linalg.inv(moments[np.ix_(order, order)])).T
    left, rounded = weights[order], np.zeros_like(weights)
    for i in range(len(order)):
        rounded[order[i]] = np.clip(np.rint(left[i] / scales), -127, 127)
        error = (left[i] - rounded[order[i]] * scales) / spread[i, i]
        left[i + 1 :] -= np.outer(spread[i, i + 1 :], error)
    return rounded


def _sources(step):
    return step.sources if isinstance(step, network.Concat) else (step.source,)


def _batches(x):
    return (x[i : i + BATCH] for i in range(0, len(x), BATCH))


def _both(step, kernel, bias, layer, real, steps, input_scale, output_scale):
    """One batch through a convolution: real values by the float layer, steps by the quantized one."""
    r, shape = network.columns(real, kernel.shape[0], step.stride, step.padded)
    s, _ = network.columns(steps, kernel.shape[0], step.stride, step.padded)
    y = np.maximum(r @ kernel.reshape(-1, kernel.shape[-1]) + bias, 0).reshape(*shape, -1)
    return y, quantized.convolve(layer, s, shape, input_scale, output_scale)
