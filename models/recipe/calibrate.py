"""Calibration: chooses the quantization scales from photos and rounds the weights to int8.

Activations: each tensor gets the scale that minimizes the squared error of rounding and clipping over all
nonzero values (zero is exact at any scale). The inputs of a concatenation share one scale.

Weights: layers are quantized in order of execution. The input of each layer is the actual output of the
quantized layers before it, so later layers compensate for earlier rounding errors. Per layer: (1) a ridge
regression finds the real-valued weights whose sums are closest to the float network's, regularized towards
the published weights; (2) GPTQ rounds them input by input and distributes each rounding error over the inputs
not yet rounded; (3) the bias corrects the mean error. The model card lists the alternatives that were tried
and their results.
"""

import numpy as np

from recipe import network, quantized

BINS = 8192
BATCH = 10
# Candidates for the largest representable value, as fractions of the largest observed value.
FRACTIONS = np.linspace(0.3, 1.0, 71)
# Strength of the ridge regularization, relative to the mean variance of the layer's inputs.
RIDGE = 0.01


def histograms(weights, rgb, last=network.LAST):
    """Returns group -> (largest value, histogram with BINS bins from 0 to the largest value)."""
    batches = [rgb[i : i + BATCH] for i in range(0, len(rgb), BATCH)]
    largest, counts = {}, {}

    def find_largest(op, _columns, y):
        largest[op.group] = max(largest.get(op.group, 0.0), float(y.max()))

    def count(op, _columns, y):
        histogram, _ = np.histogram(y, bins=BINS, range=(0, largest[op.group]))
        counts[op.group] = counts.get(op.group, 0) + histogram

    for observe in (find_largest, count):
        for batch in batches:
            network.run_float(weights, batch, observe, last)
    return {group: (largest[group], counts[group]) for group in largest}


def least_error_scale(largest, counts):
    """Returns the scale that quantizes the values to 0..255 with the smallest squared error."""
    values = (np.arange(BINS) + 0.5) * largest / BINS
    counts = counts.copy()
    counts[0] = 0

    def error(scale):
        return (counts * (np.clip(np.rint(values / scale), 0, 255) * scale - values) ** 2).sum()

    return min((largest * fraction / 255 for fraction in FRACTIONS), key=error)


def calibrate(weights, rgb, last=network.LAST):
    """Returns (layer name -> Layer, group -> scale) for RGB photos of shape N x size x size x 3, uint8."""
    scales = {"input": np.float32(1.0)}
    for group, (largest, counts) in histograms(weights, rgb, last).items():
        scales[group] = np.float32(least_error_scale(largest, counts))
    group_of = network.groups(last) | {"input": "input"}
    # Tensors of all photos: real values of the float network, quantized values 0..255 of the int8 network.
    real, quants, layers = {"input": rgb.astype(np.float32)}, {"input": rgb.astype(np.float32)}, {}
    last_use = {source: op for op in network.operators(last) for source in _sources(op)}
    for op in network.operators(last):
        if isinstance(op, network.Conv):
            kernel, bias = weights[op.name]
            input_scale = scales[group_of[op.source]]
            moments = Moments.of(op, kernel, real[op.source], quants[op.source], input_scale)
            layers[op.name] = fit_layer(kernel, bias, moments, input_scale)
            outputs = [
                _run_both(op, kernel, bias, layers[op.name], r, q, input_scale, scales[op.group])
                for r, q in zip(_batches(real[op.source]), _batches(quants[op.source]))
            ]
            real[op.name], quants[op.name] = (np.concatenate(part) for part in zip(*outputs))
        else:
            for tensors in (real, quants):
                inputs = [tensors[source] for source in _sources(op)]
                is_pool = isinstance(op, network.Pool)
                tensors[op.name] = network.pool(inputs[0]) if is_pool else np.concatenate(inputs, axis=-1)
        for source in _sources(op):
            if last_use[source] is op:
                del real[source], quants[source]
    return layers, scales


class Moments:
    """Means and central second moments of a layer's inputs, over all photos and positions.

    `real`: mean input of the float network, K values. `quant`: mean input of the int8 network, dequantized, K
    values. `quant_quant` and `quant_real`: covariances, K x K.
    """

    def __init__(self, real, quant, quant_quant, quant_real):
        self.real, self.quant = real, quant
        self.quant_quant, self.quant_real = quant_quant, quant_real

    @staticmethod
    def of(op, kernel, real, quants, scale):
        """Computes the moments batch by batch."""
        size, count = kernel.shape[0], 0
        sums = [0.0, 0.0, 0.0, 0.0]
        for real_batch, quant_batch in zip(_batches(real), _batches(quants)):
            r, _ = network.columns(real_batch, size, op.stride, op.padded)
            q, _ = network.columns(quant_batch, size, op.stride, op.padded)
            q = q * scale
            count += len(q)
            parts = (r.sum(0, dtype=np.float64), q.sum(0, dtype=np.float64), q.T @ q, q.T @ r)
            sums = [total + part for total, part in zip(sums, parts)]
        real, quant, quant_quant, quant_real = (total / count for total in sums)
        return Moments(real, quant, quant_quant - np.outer(quant, quant), quant_real - np.outer(quant, real))


def fit_layer(kernel, bias, moments, input_scale):
    """Returns the quantized layer whose sums approximate those of the float layer."""
    size = moments.quant_quant.shape[0]
    published = kernel.reshape(size, -1).astype(np.float64)
    ridge = RIDGE * np.trace(moments.quant_quant) / size * np.eye(size)
    target = np.linalg.solve(moments.quant_quant + ridge, moments.quant_real @ published + ridge @ published)
    kernel_scales = np.float32(np.abs(target).max(axis=0) / 127)
    rounded = gptq_round(target, kernel_scales.astype(np.float64), moments.quant_quant + ridge)
    bias = bias + moments.real @ published - moments.quant @ (rounded * kernel_scales)
    bias_quants = np.rint(bias / (np.float64(input_scale) * kernel_scales))
    return quantized.Layer(rounded.reshape(kernel.shape).astype(np.float32), kernel_scales, bias_quants)


def gptq_round(weights, scales, moments):
    """Rounds K x outputs weights to -127..127 and distributes each row's error over later rows (GPTQ)."""
    # Inputs with the largest variance go first, because then most rows are left to compensate for their
    # errors.
    order = np.argsort(-np.diag(moments), kind="stable")
    spread = np.linalg.cholesky(np.linalg.inv(moments[np.ix_(order, order)])).T
    remaining, rounded = weights[order], np.zeros_like(weights)
    for i in range(len(order)):
        rounded[order[i]] = np.clip(np.rint(remaining[i] / scales), -127, 127)
        error = (remaining[i] - rounded[order[i]] * scales) / spread[i, i]
        remaining[i + 1 :] -= np.outer(spread[i, i + 1 :], error)
    return rounded


def _sources(op):
    return op.sources if isinstance(op, network.Concat) else (op.source,)


def _batches(x):
    return (x[i : i + BATCH] for i in range(0, len(x), BATCH))


def _run_both(op, kernel, bias, layer, real, quants, input_scale, output_scale):
    """Runs one batch through the float and the quantized convolution. Returns both outputs."""
    r, shape = network.columns(real, kernel.shape[0], op.stride, op.padded)
    q, _ = network.columns(quants, kernel.shape[0], op.stride, op.padded)
    y = np.maximum(r @ kernel.reshape(-1, kernel.shape[-1]) + bias, 0).reshape(*shape, -1)
    return y, quantized.convolve(layer, q, shape, input_scale, output_scale)
