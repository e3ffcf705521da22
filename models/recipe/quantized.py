"""The int8 network in numpy, bit-identical to LiteRT (XNNPACK).

Every activation is the output of a ReLU. As int8 with zero point -128 its real value is (q + 128) * scale;
this module stores q + 128, which is 0..255. The input values are the RGB bytes, scale 1. Weights are int8
with per-channel scales and zero point 0. The requantization rule of a convolution: the sum of products and
bias is exact in int32, then, all in f32, `round_half_even(sum * (s_in * s_w / s_out))`, clamped to 0..255.
"""

from dataclasses import dataclass

import numpy as np

from recipe import network


@dataclass
class Layer:
    """A quantized convolution: HWIO kernel of integers -127..127, per-channel scales, integer bias."""

    kernel: np.ndarray
    kernel_scales: np.ndarray
    bias: np.ndarray


def convolve(layer, x, shape, input_scale, output_scale):
    """Returns the output map, 0..255, for im2col columns of 0..255, by the requantization rule.

    The sums are computed in f32 if they stay below 2^24, where f32 is exact, and in f64 otherwise.
    """
    kernel = layer.kernel.reshape(-1, layer.kernel.shape[-1])
    bound = 255 * np.abs(kernel).sum(axis=0).max() + np.abs(layer.bias).max()
    exact = np.float32 if bound < 2**24 else np.float64
    sums = x.astype(exact) @ kernel.astype(exact) + layer.bias.astype(exact)
    factor = np.float32(input_scale) * layer.kernel_scales / np.float32(output_scale)
    return np.clip(np.rint(sums.astype(np.float32) * factor), 0, 255).reshape(*shape, -1)


def run(layers, scales, rgb, observe=None, last=network.LAST):
    """Returns the map of `last` as 0..255 for RGB photos.

    `observe(op, columns, shape, map)` is called for every convolution.
    """
    group_of = network.groups(last) | {"input": "input"}
    tensors = {"input": rgb.astype(np.float32)}
    for op in network.operators(last):
        if isinstance(op, network.Conv):
            layer = layers[op.name]
            x, shape = network.columns(tensors[op.source], layer.kernel.shape[0], op.stride, op.padded)
            y = convolve(layer, x, shape, scales[group_of[op.source]], scales[op.group])
            if observe:
                observe(op, x, shape, y)
            tensors[op.name] = y
        elif isinstance(op, network.Pool):
            tensors[op.name] = network.pool(tensors[op.source])
        else:
            tensors[op.name] = np.concatenate([tensors[s] for s in op.sources], axis=-1)
    return tensors[last]
