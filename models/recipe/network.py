"""SqueezeNet v1.1 as a list of operators, and its execution in float.

Activations are batch x height x width x channels (NHWC). An operator has the name of its output tensor.
Tensors that share a scale after quantization (a concatenation and its inputs, a pool and its input) form a
group, named after the concatenation or convolution.
"""

import numpy as np

SIZE = 227
MAP = 13
CLASSES = 1000
# The last operator of the shipped ImageNet network. Networks without it end at "fire9/concat".
LAST = "conv10"


class Conv:
    """A convolution with bias and ReLU."""

    def __init__(self, name, source, stride=1, padded=False, group=None):
        self.name, self.source, self.stride, self.padded = name, source, stride, padded
        self.group = group or name


class Pool:
    """Max pooling 3x3, stride 2, unpadded."""

    def __init__(self, name, source):
        self.name, self.source = name, source


class Concat:
    """Concatenation along the channels, in the order of the sources."""

    def __init__(self, name, sources):
        self.name, self.sources = name, sources


def operators(last=LAST):
    """Returns the operators up to `last` in order of execution. The input tensor is called `input`."""
    out = [Conv("conv1", "input", stride=2), Pool("pool1", "conv1")]
    source = "pool1"
    for fire in range(2, 10):
        squeeze, one, three, both = (f"fire{fire}/{part}" for part in ("squeeze1x1", "expand1x1", "expand3x3", "concat"))
        out += [
            Conv(squeeze, source),
            Conv(one, squeeze, group=both),
            Conv(three, squeeze, padded=True, group=both),
            Concat(both, (one, three)),
        ]
        source = both
        if fire in (3, 5):
            out.append(Pool(f"pool{fire}", source))
            source = f"pool{fire}"
    out.append(Conv("conv10", source))
    return out[: 1 + [op.name for op in out].index(last)]


def groups(last=LAST):
    """Returns tensor -> group."""
    group_of = {}
    for op in operators(last):
        if isinstance(op, Conv):
            group_of[op.name] = op.group
        elif isinstance(op, Pool):
            group_of[op.name] = group_of[op.source]
        else:
            group_of[op.name] = op.name
    return group_of


def columns(x, size, stride, padded):
    """Returns the im2col matrix and (N, out height, out width).

    The matrix is (N * out height * out width) x (size * size * channels).
    """
    if padded:
        border = size // 2
        x = np.pad(x, ((0, 0), (border, border), (border, border), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    n, h, w = view.shape[:3]
    return np.ascontiguousarray(view.transpose(0, 1, 2, 4, 5, 3)).reshape(n * h * w, -1), (n, h, w)


def pool(x):
    """Max pooling 3x3, stride 2, unpadded."""
    view = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2]
    return view.max(axis=(-1, -2))


def run_float(weights, rgb, observe=None, last=LAST):
    """Returns the map of `last`, f32, for RGB photos of shape N x size x size x 3.

    `observe(op, columns, map)` is called for every convolution.
    """
    tensors = {"input": rgb.astype(np.float32)}
    for op in operators(last):
        if isinstance(op, Conv):
            kernel, bias = weights[op.name]
            x, shape = columns(tensors[op.source], kernel.shape[0], op.stride, op.padded)
            y = np.maximum(x @ kernel.reshape(-1, kernel.shape[-1]) + bias, 0).reshape(*shape, -1)
            if observe:
                observe(op, x, y)
            tensors[op.name] = y
        elif isinstance(op, Pool):
            tensors[op.name] = pool(tensors[op.source])
        else:
            tensors[op.name] = np.concatenate([tensors[s] for s in op.sources], axis=-1)
    return tensors[last]


def scores(maps):
    """Returns the softmax of the spatial average, f32, for real-valued maps of shape N x 13 x 13 x 1000."""
    logits = maps.astype(np.float32).mean(axis=(1, 2))
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def multiply_adds(size=SIZE, last=LAST):
    """Returns the number of multiply-adds of one inference, computed from the shapes."""
    from recipe import weights as source

    kernels, total, shapes = source.load(), 0, {"input": (size, size)}
    for op in operators(last):
        if isinstance(op, Conv):
            kernel = kernels[op.name][0]
            h, w = shapes[op.source]
            if not op.padded:
                h, w = ((s - kernel.shape[0]) // op.stride + 1 for s in (h, w))
            shapes[op.name] = (h, w)
            total += h * w * kernel.size
        elif isinstance(op, Pool):
            shapes[op.name] = tuple((s - 3) // 2 + 1 for s in shapes[op.source])
        else:
            shapes[op.name] = shapes[op.sources[0]]
    return total
