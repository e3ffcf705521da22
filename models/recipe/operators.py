"""Writes small graphs for the engine's tests, each with a random input and LiteRT's output for it.

    cd models && python -m recipe.operators ../engine/tests/data/operators

The graphs are scaled-down variants of SqueezeNet, and cover every operator of the native engine with the
shapes, scales and zero points that converters write. Weights are random with fixed seeds, so every run gives
the same files.
"""

import pathlib
import sys

import numpy as np

from recipe.tflite_writer import Graph

SAME, VALID = 0, 1
NONE, RELU, RELU6 = 0, 1, 3


class Net:
    """Builds a graph operator by operator and keeps track of scales and zero points."""

    def __init__(self, shape=(1, 17, 15, 3), kind="int8", scale=1.0, seed=0, per_channel=True):
        self.g, self.random, self.per_channel = Graph("camfire test graph"), np.random.default_rng(seed), per_channel
        self.kind, self.info = "int8", {}
        zero = {"int8": -128, "uint8": 0, "float32": 0}[kind]
        self.input = self.tensor("rgb", shape, scale, zero, kind)
        self.g.inputs = [self.input]

    def tensor(self, name, shape, scale, zero, kind=None):
        kind = kind or self.kind
        scales = [] if kind == "float32" else [scale]
        index = self.g.tensor(name, tuple(shape), kind, scales=scales, zero_point=zero)
        self.info[index] = (tuple(shape), scale, zero)
        return index

    def result(self, name, shape, source, scale, zero, gain=1.0):
        """Adds an output tensor. Default scale: the source's times `gain` times a factor near 1."""
        scale = scale or float(np.float32(self.info[source][1] * gain * self.random.uniform(0.8, 1.25)))
        return self.tensor(f"{name}{len(self.info)}", shape, scale, zero)

    def weights(self, shape, axis, fan_in, scale, count):
        kernel = np.clip(np.round(self.random.normal(0, 45, shape)), -127, 127)
        scales = self.random.uniform(0.7, 1.3, count if self.per_channel else 1) / (45 * np.sqrt(fan_in))
        scales = scales.astype(np.float32)
        weights = self.g.tensor(f"weights{len(self.g.tensors)}", shape, "int8", kernel, list(scales), axis=axis)
        bias_scales = np.float32(scale) * scales
        bias = np.round(self.random.normal(0, 20 * scale, count) / bias_scales)
        return weights, self.g.tensor(f"bias{len(self.g.tensors)}", (count,), "int32", bias, list(bias_scales))

    @staticmethod
    def sizes(shape, size, stride, padding, dilation=(1, 1)):
        extent = [(k - 1) * d + 1 for k, d in zip(size, dilation)]
        if padding == SAME:
            return [-(-s // t) for s, t in zip(shape[1:3], stride)]
        return [(s - e) // t + 1 for s, e, t in zip(shape[1:3], extent, stride)]

    def conv(self, source, channels, size=(1, 1), stride=(1, 1), padding=SAME, act=RELU, zero=-128, scale=None, dilation=(1, 1)):
        shape, source_scale, _ = self.info[source]
        kernel = (channels, *size, shape[3])
        weights, bias = self.weights(kernel, 0, size[0] * size[1] * shape[3], source_scale, channels)
        h, w = self.sizes(shape, size, stride, padding, dilation)
        out = self.result("conv", (1, h, w, channels), source, scale, zero)
        options = {"Padding": padding, "StrideW": stride[1], "StrideH": stride[0], "DilationWFactor": dilation[1]}
        options |= {"DilationHFactor": dilation[0], "FusedActivationFunction": act}
        self.g.operator("CONV_2D", [source, weights, bias], [out], "Conv2DOptions", options, version=3)
        return out

    def depthwise(self, source, size=(3, 3), stride=(1, 1), padding=SAME, act=RELU, zero=-128, multiplier=1, scale=None, dilation=(1, 1)):
        shape, source_scale, _ = self.info[source]
        channels = shape[3] * multiplier
        weights, bias = self.weights((1, *size, channels), 3, size[0] * size[1], source_scale, channels)
        h, w = self.sizes(shape, size, stride, padding, dilation)
        out = self.result("depthwise", (1, h, w, channels), source, scale, zero)
        options = {"Padding": padding, "StrideW": stride[1], "StrideH": stride[0], "DepthMultiplier": multiplier}
        options |= {"DilationWFactor": dilation[1], "DilationHFactor": dilation[0], "FusedActivationFunction": act}
        self.g.operator("DEPTHWISE_CONV_2D", [source, weights, bias], [out], "DepthwiseConv2DOptions", options, version=3)
        return out

    def pool(self, code, source, size=(3, 3), stride=(2, 2), padding=VALID, act=NONE):
        shape, scale, zero = self.info[source]
        h, w = self.sizes(shape, size, stride, padding)
        out = self.tensor(f"pool{len(self.info)}", (1, h, w, shape[3]), scale, zero)
        options = {"Padding": padding, "StrideW": stride[1], "StrideH": stride[0], "FilterWidth": size[1]}
        options |= {"FilterHeight": size[0], "FusedActivationFunction": act}
        self.g.operator(code, [source], [out], "Pool2DOptions", options, version=2)
        return out

    def join(self, sources, axis=3):
        shapes = [self.info[s][0] for s in sources]
        shape = list(shapes[0])
        shape[axis] = sum(s[axis] for s in shapes)
        out = self.tensor(f"concat{len(self.info)}", shape, *self.info[sources[0]][1:])
        options = {"Axis": axis, "FusedActivationFunction": NONE}
        self.g.operator("CONCATENATION", list(sources), [out], "ConcatenationOptions", options, version=2)
        return out

    def fire(self, source, squeeze, expand):
        s = self.conv(source, squeeze)
        one = self.conv(s, expand, scale=None)
        return self.join([one, self.conv(s, expand, (3, 3), scale=self.info[one][1])])

    def add(self, a, b, act=NONE, zero=-128, gain=1.6, scale=None):
        out = self.result("add", self.info[a][0], a, scale, zero, gain)
        self.g.operator("ADD", [a, b], [out], "AddOptions", {"FusedActivationFunction": act}, version=2)
        return out

    def mean(self, source, keep_dims=False, gain=0.5):
        shape = self.info[source][0]
        axes = self.g.tensor("axes", (2,), "int32", np.array([1, 2]))
        out_shape = (1, 1, 1, shape[3]) if keep_dims else (1, shape[3])
        out = self.result("mean", out_shape, source, None, self.info[source][2], gain)
        self.g.operator("MEAN", [source, axes], [out], "ReducerOptions", {"KeepDims": keep_dims}, version=2)
        return out

    def dense(self, source, channels, act=NONE, zero=5, scale=None):
        shape, source_scale, _ = self.info[source]
        fan_in = int(np.prod(shape))
        per_channel, self.per_channel = self.per_channel, False
        weights, bias = self.weights((channels, fan_in), 0, fan_in, source_scale, channels)
        self.per_channel = per_channel
        out = self.result("dense", (1, channels), source, scale, zero)
        options = {"FusedActivationFunction": act, "WeightsFormat": 0, "KeepNumDims": False}
        self.g.operator("FULLY_CONNECTED", [source, weights, bias], [out], "FullyConnectedOptions", options, version=4)
        return out

    def reshape(self, source, shape):
        target = self.g.tensor("shape", (len(shape),), "int32", np.array(shape))
        out = self.tensor(f"reshape{len(self.info)}", shape, *self.info[source][1:])
        self.g.operator("RESHAPE", [source, target], [out], "ReshapeOptions", {})
        return out

    def pad(self, source, top, bottom, left, right):
        shape, scale, zero = self.info[source]
        amounts = self.g.tensor("amounts", (4, 2), "int32", np.array([[0, 0], [top, bottom], [left, right], [0, 0]]))
        padded = (1, shape[1] + top + bottom, shape[2] + left + right, shape[3])
        out = self.tensor(f"pad{len(self.info)}", padded, scale, zero)
        self.g.operator("PAD", [source, amounts], [out], "PadOptions", {}, version=2)
        return out

    def convert(self, code, source, kind, scale, zero, version=2):
        out = self.tensor(f"convert{len(self.info)}", self.info[source][0], scale, zero, kind)
        self.g.operator(code, [source], [out], code.capitalize() + "Options", {}, version=version)
        return out

    def logistic(self, source, scale=1 / 256, zero=-128, kind=None):
        out = self.tensor(f"logistic{len(self.info)}", self.info[source][0], scale, zero, kind)
        self.g.operator("LOGISTIC", [source], [out], version=2)
        return out

    def leaky_relu(self, source, slope, scale=None, zero=-100):
        out = self.tensor(f"leaky{len(self.info)}", self.info[source][0], scale or self.info[source][1], zero)
        self.g.operator("LEAKY_RELU", [source], [out], "LeakyReluOptions", {"Alpha": slope}, version=2)
        return out

    def multiply(self, a, b, act=NONE, zero=-128, scale=None, kind=None):
        """`a` has the output's shape. Default scale: as if the values of `b` were of magnitude 1."""
        out = self.tensor(f"multiply{len(self.info)}", self.info[a][0], scale or self.info[a][1], zero, kind)
        self.g.operator("MUL", [a, b], [out], "MulOptions", {"FusedActivationFunction": act}, version=2)
        return out

    def silu(self, source, scale=None, zero=-122, swapped=False):
        """x * logistic(x), whose lowest value is -0.28."""
        pair = [source, self.logistic(source)]
        return self.multiply(*(pair[::-1] if swapped else pair), zero=zero, scale=scale or self.info[source][1] * 0.6)

    def constant(self, shape, values, scale, zero, kind="int8"):
        index = self.g.tensor(f"constant{len(self.g.tensors)}", shape, kind, values, [scale], zero)
        self.info[index] = (shape, scale, zero)
        return index

    def resize(self, source, height, width, align_corners=False, half_pixel_centers=False):
        shape, scale, zero = self.info[source]
        size = self.g.tensor("size", (2,), "int32", np.array([height, width]))
        out = self.tensor(f"resize{len(self.info)}", (1, height, width, shape[3]), scale, zero)
        options = {"AlignCorners": align_corners, "HalfPixelCenters": half_pixel_centers}
        name = "RESIZE_NEAREST_NEIGHBOR"
        self.g.operator(name, [source, size], [out], "ResizeNearestNeighborOptions", options, version=2)
        return out

    def slice(self, source, begin, end, strides, begin_mask=0, end_mask=0):
        shape, scale, zero = self.info[source]
        amounts = [self.g.tensor("slice", (len(shape),), "int32", np.array(a)) for a in (begin, end, strides)]
        sliced = []
        for axis, (first, last, stride) in enumerate(zip(begin, end, strides)):
            mask = lambda bits, value: None if bits >> axis & 1 else value
            sliced.append(len(range(shape[axis])[mask(begin_mask, first) : mask(end_mask, last) : stride]))
        out = self.tensor(f"slice{len(self.info)}", sliced, scale, zero)
        options = {"BeginMask": begin_mask, "EndMask": end_mask}
        self.g.operator("STRIDED_SLICE", [source, *amounts], [out], "StridedSliceOptions", options, version=2)
        return out

    def transpose(self, source, order):
        shape, scale, zero = self.info[source]
        axes = self.g.tensor("order", (len(order),), "int32", np.array(order))
        out = self.tensor(f"transpose{len(self.info)}", [shape[axis] for axis in order], scale, zero)
        self.g.operator("TRANSPOSE", [source, axes], [out], "TransposeOptions", {}, version=2)
        return out

    def softmax(self, source):
        out = self.tensor("softmax", self.info[source][0], 1 / 256, -128)
        self.g.operator("SOFTMAX", [source], [out], "SoftmaxOptions", {"Beta": 1.0}, version=2)
        return out

    def ends_with(self, *outputs):
        self.g.outputs = list(outputs)
        return self.g


def squeezenet_v1_0():
    n = Net((1, 63, 63, 3), seed=10)
    x = n.pool("MAX_POOL_2D", n.conv(n.input, 12, (7, 7), (2, 2), VALID))
    x = n.pool("MAX_POOL_2D", n.fire(n.fire(x, 4, 8), 4, 8))
    return n.ends_with(n.mean(n.conv(n.fire(x, 6, 12), 20)))


def squeezenet_v1_1():
    n = Net((1, 47, 47, 3), seed=11)
    x = n.pool("MAX_POOL_2D", n.conv(n.input, 16, (3, 3), (2, 2), VALID))
    x = n.pool("MAX_POOL_2D", n.fire(n.fire(x, 4, 16), 4, 16))
    return n.ends_with(n.conv(n.fire(x, 12, 24), 40))


def squeezenet_bypass():
    n = Net((1, 31, 31, 3), seed=12)
    x = n.fire(n.pool("MAX_POOL_2D", n.conv(n.input, 16, (3, 3), (2, 2), VALID)), 4, 8)
    x = n.pool("MAX_POOL_2D", n.add(x, n.fire(x, 4, 8)))
    x = n.add(n.conv(x, 24), n.fire(x, 6, 12))
    return n.ends_with(n.softmax(n.mean(n.conv(x, 10, act=NONE, zero=-3), gain=0.05)))


def squeezenext_block():
    n = Net((1, 23, 21, 3), seed=13)
    x = n.conv(n.input, 16, (5, 5), (2, 2), VALID)
    y = n.conv(n.conv(x, 8), 4)
    y = n.conv(n.conv(n.conv(y, 8, (3, 1)), 8, (1, 3)), 16, act=NONE, zero=7)
    x = n.add(x, y, act=RELU)
    return n.ends_with(n.dense(n.mean(x, keep_dims=True), 9))


def zero_points():
    """Zero points inside the value range: no ReLU, and padding that is not the smallest value."""
    n = Net(seed=14)
    x = n.conv(n.input, 10, (3, 3), act=NONE, zero=11)
    x = n.conv(x, 9, (3, 3), (2, 2), act=NONE, zero=-20)
    return n.ends_with(n.conv(x, 8, (5, 3), act=NONE, zero=100))


def bounded():
    n = Net(seed=15)
    x = n.conv(n.input, 8, (3, 3), act=RELU6, zero=-128, scale=0.05)
    x = n.pool("MAX_POOL_2D", x, act=RELU6)
    return n.ends_with(n.conv(x, 6, act=RELU6, zero=-100, scale=0.03))


def depthwise():
    n = Net(seed=16)
    x = n.depthwise(n.conv(n.input, 8), zero=-90, act=NONE)
    x = n.depthwise(x, (5, 5), (2, 2))
    return n.ends_with(n.depthwise(x, (3, 3), (1, 1), VALID, RELU, multiplier=2))


def average_pool():
    n = Net(seed=17)
    x = n.pool("AVERAGE_POOL_2D", n.conv(n.input, 10, act=NONE, zero=3), (3, 3), (2, 2), SAME)
    return n.ends_with(n.pool("AVERAGE_POOL_2D", x, (2, 3), (1, 2), VALID))


def dilated():
    n = Net(seed=18)
    x = n.conv(n.input, 8, (3, 3), dilation=(2, 2))
    return n.ends_with(n.conv(x, 8, (3, 3), padding=VALID, dilation=(1, 3)))


def per_tensor():
    n = Net(seed=19, per_channel=False)
    return n.ends_with(n.conv(n.fire(n.conv(n.input, 12, (3, 3)), 5, 7), 11))


def uint8_ends():
    n = Net(kind="uint8", seed=20)
    x = n.conv(n.convert("QUANTIZE", n.input, "int8", 1.0, -128, version=1), 9, (3, 3))
    return n.ends_with(n.convert("QUANTIZE", x, "uint8", n.info[x][1], 0))


def requantized():
    n = Net(seed=21)
    x = n.convert("QUANTIZE", n.conv(n.input, 8, act=NONE, zero=9), "int8", 1.7, -30)
    return n.ends_with(n.convert("QUANTIZE", x, "int8", 0.9, 12))


def real_ends():
    n = Net(kind="float32", seed=22)
    x = n.conv(n.convert("QUANTIZE", n.input, "int8", 0.017, -3, version=1), 9, (3, 3))
    return n.ends_with(n.convert("DEQUANTIZE", x, "float32", 1.0, 0))


def joined():
    """Concatenations along every axis, of inputs that have other consumers, and a nested concatenation."""
    n = Net(seed=23)
    a, scale = n.conv(n.input, 6), None
    scale = n.info[a][1]
    b = n.conv(n.input, 6, (3, 3), scale=scale)
    tall = n.join([a, b], axis=1)
    wide = n.join([n.conv(tall, 5, scale=2.0), n.conv(tall, 5, (3, 3), scale=2.0)], axis=2)
    deep = n.join([n.join([wide, n.conv(wide, 3, scale=2.0)]), n.conv(wide, 4, (3, 3), scale=2.0), wide])
    return n.ends_with(n.conv(deep, 7), n.conv(b, 3))


def parts_with_edges():
    """Padded windows over inputs of a vertical concatenation: the padding must not read the next input."""
    n = Net(seed=25)
    a = n.conv(n.input, 5, scale=1.5)
    b = n.conv(n.input, 5, (3, 3), scale=1.5)
    whole = n.join([a, b], axis=1)
    return n.ends_with(n.join([n.conv(b, 4, (3, 3), scale=2.0), n.conv(a, 4, (5, 5), scale=2.0)]), n.conv(whole, 3))


def padded_and_reshaped():
    n = Net(seed=24)
    x = n.conv(n.pad(n.conv(n.input, 7, act=NONE, zero=31), 0, 1, 2, 0), 6, (3, 3), (2, 2), VALID)
    h, w, c = n.info[x][0][1:]
    return n.ends_with(n.softmax(n.dense(n.reshape(x, (1, h * w * c)), 12)))


def pooled_whole():
    """Pools as high as their input after pointwise convolutions, whose rows are otherwise merged."""
    n = Net((1, 3, 9, 3), seed=26)
    x = n.pool("MAX_POOL_2D", n.conv(n.input, 7), (3, 3), (1, 1))
    low = n.pool("MAX_POOL_2D", n.conv(n.input, 5, scale=2.0), (3, 2), (1, 2), SAME)
    return n.ends_with(n.pool("MAX_POOL_2D", n.conv(x, 9), (1, 7), (1, 1)), n.conv(low, 4))


def pooled_globally():
    n = Net((1, 6, 5, 3), seed=27)
    return n.ends_with(n.pool("MAX_POOL_2D", n.conv(n.input, 20, act=NONE, zero=4), (6, 5), (1, 1)))


def pooled_squares():
    n = Net((1, 2, 2, 3), seed=28)
    return n.ends_with(n.pool("MAX_POOL_2D", n.conv(n.input, 20), (2, 2), (1, 1), SAME))


def bounded_at_halves(zero, scale):
    """ReLU6 upper bounds between two quantized values, for every operator with a fused activation."""
    n = Net(seed=29)
    x = n.conv(n.input, 6, act=NONE, zero=zero, scale=scale)
    parts = [n.conv(x, 6, act=RELU6, zero=zero, scale=scale), n.depthwise(x, act=RELU6, zero=zero, scale=scale)]
    parts += [n.pool(code, x, (2, 2), (1, 1), SAME, RELU6) for code in ("MAX_POOL_2D", "AVERAGE_POOL_2D")]
    return n.ends_with(n.join([*parts, n.add(x, x, act=RELU6, zero=zero, scale=scale)]))


def bounded_below_a_half():
    return bounded_at_halves(-125, 2.4)


def bounded_above_a_half():
    return bounded_at_halves(-124, 2.4)


def bounded_pool_with_gaps():
    """A stride larger than the window: LiteRT uses another kernel, which has a different upper bound."""
    n = Net(seed=34)
    x = n.conv(n.input, 6, act=NONE, zero=-124, scale=2.4)
    return n.ends_with(n.pool("MAX_POOL_2D", x, (3, 1), (2, 2), act=RELU6))


def bounded_dense():
    n = Net((1, 5, 3, 3), seed=30)
    return n.ends_with(n.dense(n.input, 30, act=RELU6, zero=-124, scale=2.4))


def few_from_many():
    """Two classes from a whole image: kernels that compute 16 channels at once would pad 14 of them."""
    n = Net((1, 92, 92, 3), seed=31)
    return n.ends_with(n.dense(n.input, 2))


def retyped():
    """Conversions from int8 to uint8 and back, with different scales."""
    n = Net(seed=32)
    x = n.convert("QUANTIZE", n.conv(n.input, 8, act=NONE, zero=9), "uint8", 1.7, 30, version=1)
    return n.ends_with(n.convert("QUANTIZE", x, "int8", 0.3, 12, version=1))


def retyped_back():
    """Conversions from uint8 to int8 and back, with different scales."""
    n = Net(kind="uint8", seed=33)
    x = n.convert("QUANTIZE", n.input, "int8", 1.3, -30, version=1)
    return n.ends_with(n.convert("QUANTIZE", n.conv(x, 8, act=NONE, zero=9), "uint8", 0.9, 100, version=1))


def logistics():
    """All values of two scales and zero points, and an output scale other than 1/256."""
    n = Net((1, 16, 16, 1), scale=0.07, seed=35)
    spread = n.convert("QUANTIZE", n.input, "int8", 0.041, 17)
    outs = [n.logistic(n.input), n.logistic(spread, zero=-60), n.logistic(spread, scale=1 / 100, zero=3)]
    return n.ends_with(*outs, n.logistic(n.logistic(n.input)))


def logistic_of_uint8():
    n = Net((1, 16, 16, 1), kind="uint8", scale=0.07, seed=36)
    n.kind = "uint8"
    a = n.logistic(n.input, zero=0)
    return n.ends_with(a, n.multiply(n.input, a, zero=70, scale=0.03))


def silus():
    """The fused activation with its operands in both orders, beside one whose LOGISTIC is also an output."""
    n = Net(seed=37, scale=1 / 32)
    a = n.silu(n.conv(n.input, 6, (3, 3), act=NONE, zero=-9, scale=0.05))
    b = n.conv(a, 7, act=NONE, zero=20, scale=0.04)
    c = n.silu(b, zero=-118, swapped=True)
    gate = n.logistic(c)
    return n.ends_with(n.conv(n.multiply(c, gate), 5), gate, n.multiply(gate, gate, scale=1 / 256), c)


def products():
    """Bounds at halves, and constants: one for all, one for each channel, and one pixel for all."""
    n = Net(seed=38, scale=1 / 32)
    a = n.conv(n.input, 5, act=NONE, zero=-20, scale=0.06)
    b = n.conv(n.input, 5, (3, 3), act=NONE, zero=11, scale=0.05)
    channels = n.constant((5,), [-128, -3, 0, 77, 127], 0.02, -5)
    pixel = n.constant((1, 1, 1, 5), [9, -100, 31, 5, 127], 0.013, 0)
    one = n.constant((), [93], 0.01, 4)
    mean = n.mean(a, keep_dims=True)
    parts = [n.multiply(a, b, zero=-7, scale=0.05), n.multiply(a, b, RELU, zero=-40, scale=0.05)]
    parts += [n.multiply(a, b, RELU6, zero=zero, scale=2.4) for zero in (-124, -125)]
    parts += [n.multiply(a, channels, zero=1), n.multiply(b, pixel, zero=-90), n.multiply(a, one, zero=12)]
    parts += [n.multiply(a, mean, zero=33), n.multiply(a, n.constant((1,), [-128], 0.01, 127), RELU6, zero=12)]
    return n.ends_with(*parts)


def resized():
    """Every combination of flags, enlarging and reducing, and twice the size into a concatenation."""
    n = Net((1, 7, 5, 3), seed=39)
    x = n.conv(n.input, 6, act=NONE, zero=3, scale=1.5)
    outs = [n.resize(x, h, w, a, c) for h, w in ((14, 10), (3, 12)) for a in (False, True) for c in (False, True)]
    large = n.conv(n.resize(n.input, 14, 10), 4, (3, 3), act=NONE, zero=3, scale=1.5)
    whole = n.join([n.resize(x, 14, 10), large])
    return n.ends_with(*outs, n.resize(x, 1, 1, True), n.conv(whole, 5, (3, 3)))


def focus():
    """Slices of every second pixel joined to more channels, as detectors begin."""
    n = Net((1, 16, 12, 3), seed=40)
    parts = []
    for top, left in ((0, 0), (1, 0), (0, 1), (1, 1)):
        rows = n.slice(n.input, (0, top, 0, 0), (1, 16, 12, 3), (1, 2, 1, 1), end_mask=0b1010)
        parts.append(n.slice(rows, (0, 0, left, 0), (0, 0, 99, 0), (1, 1, 2, 1), 0b1011, 0b1011))
    return n.ends_with(n.conv(n.join(parts), 9, (3, 3)))


def slices():
    """Ends before the last index, channels, every second channel, and lists of vectors."""
    n = Net((1, 9, 8, 3), seed=41)
    x = n.conv(n.input, 10, scale=1.5)
    outs = [n.slice(x, (0, -7, 1, 2), (1, -1, -2, 9), (1, 3, 2, 1)), n.slice(x, (0, 0, 0, 1), (1, 9, 8, 10), (1, 1, 1, 4))]
    rows = n.reshape(x, (1, 72, 10))
    outs += [n.slice(rows, (0, 5, 0), (1, 70, 4), (1, 7, 1)), n.slice(rows, (0, 3, 2), (1, 4, 3), (1, 1, 1))]
    halves = [n.slice(x, (0, 0, 0, first), (1, 9, 8, first + 5), (1, 1, 1, 1)) for first in (5, 0)]
    outs.append(n.slice(n.reshape(x, (1, 720)), (0, -100), (0, 0), (1, 3), end_mask=3))
    return n.ends_with(*outs, n.conv(n.join(halves), 4))


def transposed():
    n = Net((1, 6, 5, 3), seed=42)
    x = n.conv(n.input, 7, scale=1.5)
    outs = [n.transpose(x, order) for order in ((0, 3, 1, 2), (0, 2, 1, 3), (0, 3, 2, 1), (0, 1, 3, 2))]
    rows = n.transpose(n.reshape(x, (1, 30, 7)), (0, 2, 1))
    flat = n.transpose(n.reshape(x, (1, 1, 30, 7)), (1, 0, 3, 2))
    return n.ends_with(*outs, rows, flat, n.conv(n.transpose(outs[0], (0, 2, 3, 1)), 4, (3, 3)))


def spatial_pyramid():
    """Max pools of one size, larger than their input in part, joined with their input."""
    n = Net((1, 11, 9, 3), seed=43)
    x = n.conv(n.input, 6, act=NONE, zero=-40, scale=1.5)
    parts = [n.pool("MAX_POOL_2D", x, (size, size), (1, 1), SAME) for size in (5, 9, 13)]
    return n.ends_with(n.conv(n.join([x, *parts]), 8))


def detector():
    """Three strides with a class map and a box map each: six outputs, as an anchor-free detector has."""
    n = Net((1, 64, 48, 3), seed=44)
    x = n.conv(n.input, 8, (3, 3), (2, 2))
    x8 = n.fire(n.pool("MAX_POOL_2D", x, padding=SAME), 4, 8)
    x8 = n.fire(n.pool("MAX_POOL_2D", x8, padding=SAME), 4, 8)
    x16 = n.fire(n.pool("MAX_POOL_2D", x8, padding=SAME), 6, 12)
    x32 = n.fire(n.pool("MAX_POOL_2D", x16, padding=SAME), 8, 16)
    lateral = n.conv(x32, 10, scale=2.0)
    outs = []
    for level, (height, width) in ((x32, (2, 2)), (x16, (4, 3)), (x8, (8, 6))):
        if level is not x32:
            # The coarsest map has a column more than half of the next.
            lateral = n.join([n.resize(lateral, height, width), n.conv(level, 10, scale=2.0)])
            lateral = n.conv(lateral, 10, (3, 3), scale=2.0)
        outs += [n.logistic(n.conv(lateral, 5, act=NONE, zero=4, scale=0.1)), n.conv(lateral, 4, (3, 3), act=NONE, zero=-10)]
    return n.ends_with(*outs)


def joined_rows():
    """The maps of three strides as one list of vectors: reshapes, a concatenation along it and a transposition."""
    n = Net((1, 12, 8, 3), seed=45)
    lists = []
    for size in (1, 2, 4):
        x = n.conv(n.input, 6, (3, 3), (size, size), scale=1.5, act=NONE, zero=7)
        parts = n.join([n.logistic(x, scale=0.02), n.logistic(n.conv(x, 3, act=NONE, scale=0.1, zero=0), scale=0.02)])
        height, width = n.info[parts][0][1:3]
        lists.append(n.reshape(parts, (1, height * width, 9)))
    return n.ends_with(n.transpose(n.join(lists, axis=1), (0, 2, 1)))


def depthwise_wide():
    """More channels than are computed at once, windows larger than their input, and dilation."""
    n = Net((1, 9, 7, 3), seed=46)
    x = n.depthwise(n.conv(n.input, 45), (3, 5), (1, 2), zero=-77, act=NONE)
    y = n.depthwise(x, (7, 5), (1, 1), act=RELU6, zero=-120, scale=0.05)
    z = n.depthwise(n.conv(x, 83), (3, 3), dilation=(3, 2), zero=4, act=NONE)
    return n.ends_with(y, z, n.depthwise(z, (2, 2), (2, 2), VALID), n.depthwise(n.input, (3, 3), multiplier=20))


def leaky_relus():
    n = Net((1, 16, 16, 1), scale=0.03, seed=47)
    a = n.convert("QUANTIZE", n.input, "int8", 0.04, 12)
    outs = [n.leaky_relu(n.input, 0.1), n.leaky_relu(a, 0.1), n.leaky_relu(a, 0.01, 0.021, -90), n.leaky_relu(a, 1.7, 2.5, 30)]
    return n.ends_with(*outs, n.conv(n.leaky_relu(n.conv(n.input, 5, act=NONE, zero=7), 0.2), 4))


GRAPHS = (
    squeezenet_v1_0,
    squeezenet_v1_1,
    squeezenet_bypass,
    squeezenext_block,
    zero_points,
    bounded,
    depthwise,
    average_pool,
    dilated,
    per_tensor,
    uint8_ends,
    requantized,
    real_ends,
    joined,
    parts_with_edges,
    padded_and_reshaped,
    pooled_whole,
    pooled_globally,
    pooled_squares,
    bounded_below_a_half,
    bounded_above_a_half,
    bounded_pool_with_gaps,
    bounded_dense,
    few_from_many,
    retyped,
    retyped_back,
    logistics,
    logistic_of_uint8,
    silus,
    products,
    resized,
    focus,
    slices,
    transposed,
    spatial_pyramid,
    detector,
    joined_rows,
    depthwise_wide,
    leaky_relus,
)


def record(model):
    """Returns a random input and LiteRT's outputs, one after the other, as raw bytes. An input of 256 values contains
    each value once.
    """
    from ai_edge_litert.interpreter import Interpreter

    net = Interpreter(model_content=model, num_threads=1)
    net.allocate_tensors()
    source = net.get_input_details()[0]
    random = np.random.default_rng(7)
    if source["dtype"] == np.float32:
        values = random.uniform(-2.5, 2.5, source["shape"]).astype(np.float32)
    else:
        count = np.prod(source["shape"])
        values = random.permutation(256) if count == 256 else random.integers(0, 256, count)
        values = values.reshape(source["shape"]).astype(np.uint8).view(source["dtype"])
    net.set_tensor(source["index"], values)
    net.invoke()
    outputs = [net.get_tensor(o["index"]).tobytes() for o in net.get_output_details()]
    return values.tobytes(), b"".join(outputs)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in GRAPHS:
        model = make().to_bytes()
        values, output = record(model)
        (folder / f"{make.__name__}.tflite").write_bytes(model)
        (folder / f"{make.__name__}.in.bin").write_bytes(values)
        (folder / f"{make.__name__}.out.bin").write_bytes(output)
        actual = np.frombuffer(output, np.uint8 if len(output) < 1e6 else np.float32)
        print(f"{make.__name__}: {len(model)} bytes, {len(set(actual))} distinct output bytes of {len(actual)}")


if __name__ == "__main__":
    main()
