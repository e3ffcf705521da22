"""The int8 network in numpy, exactly as LiteRT (XNNPACK) computes it.

Every activation is the output of a ReLU, so as int8 with zero point -128 its real value is (step + 128) * scale; here
steps are kept as 0..255. The input's steps are the RGB bytes, scale 1. Weights are int8, one scale for each output
channel, zero point 0. A convolution's sum of products and bias is exact in int32; then, all in f32,
`round_half_even(sum * (s_in * s_w / s_out))`, clamped to 0..255.
"""

from dataclasses import dataclass

import numpy as np

from recipe import network


@dataclass
class Layer:
    """One convolution: kernel HWIO of whole numbers -127..127, its scale for each output, bias of whole numbers."""

    kernel: np.ndarray
    kernel_scales: np.ndarray
    bias: np.ndarray


def convolve(layer, x, shape, input_scale, output_scale):
    """Columns of 0..255 -> map of 0..255, by the rounding law. Sums stay below 2^24, where f32 is exact, or go by f64."""
    kernel = layer.kernel.reshape(-1, layer.kernel.shape[-1])
    bound = 255 * np.abs(kernel).sum(axis=0).max() + np.abs(layer.bias).max()
    exact = np.float32 if bound < 2**24 else np.float64
    sums = x.astype(exact) @ kernel.astype(exact) + layer.bias.astype(exact)
    factor = np.float32(input_scale) * layer.kernel_scales / np.float32(output_scale)
    return np.clip(np.rint(sums.astype(np.float32) * factor), 0, 255).reshape(*shape, -1)


def run(layers, scales, rgb, look=None):
    """RGB bytes -> conv10's map in steps 0..255. `look(step, columns, shape, map)` sees every convolution."""
    of = network.groups() | {"input": "input"}
    tensors = {"input": rgb.astype(np.float32)}
    for step in network.steps():
        if isinstance(step, network.Conv):
            layer = layers[step.name]
            x, shape = network.columns(tensors[step.source], layer.kernel.shape[0], step.stride, step.padded)
            y = convolve(layer, x, shape, scales[of[step.source]], scales[step.group])
            if look:
                look(step, x, shape, y)
            tensors[step.name] = y
        elif isinstance(step, network.Pool):
            tensors[step.name] = network.pool(tensors[step.source])
        else:
            tensors[step.name] = np.concatenate([tensors[s] for s in step.sources], axis=-1)
    return tensors["conv10"]
