"""SqueezeNet v1.1 as a list of steps, and the float run of it.

Activations are rows x height x width x channels (NHWC). A step names the tensor that it makes; tensors that share a
scale once quantized (a concatenation with its inputs, a pool with its input) share a group, named after the
concatenation or convolution.
"""

import numpy as np

SIZE = 227
MAP = 13
CLASSES = 1000


class Conv:
    """A convolution with bias and ReLU."""

    def __init__(self, name, source, stride=1, padded=False, group=None):
        self.name, self.source, self.stride, self.padded = name, source, stride, padded
        self.group = group or name


class Pool:
    """Maximum of 3x3, stride 2, unpadded."""

    def __init__(self, name, source):
        self.name, self.source = name, source


class Concat:
    """Channels of the first, then of the second."""

    def __init__(self, name, sources):
        self.name, self.sources = name, sources


def steps():
    """The network in order of execution; the input is called `input`."""
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
    return out + [Conv("conv10", source)]


def groups():
    """Tensor -> the group whose scale it has."""
    of = {}
    for step in steps():
        if isinstance(step, Conv):
            of[step.name] = step.group
        elif isinstance(step, Pool):
            of[step.name] = of[step.source]
        else:
            of[step.name] = step.name
    return of


def columns(x, size, stride, padded):
    """NHWC -> (N * out height * out width) x (size * size * channels), and the output's N, height, width."""
    if padded:
        border = size // 2
        x = np.pad(x, ((0, 0), (border, border), (border, border), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    n, h, w = view.shape[:3]
    return np.ascontiguousarray(view.transpose(0, 1, 2, 4, 5, 3)).reshape(n * h * w, -1), (n, h, w)


def pool(x):
    """Maximum of 3x3, stride 2, unpadded."""
    view = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2]
    return view.max(axis=(-1, -2))


def run_float(weights, rgb, look=None):
    """RGB bytes N x 227 x 227 x 3 -> conv10's map, f32. `look(step, columns, map)` sees every convolution."""
    tensors = {"input": rgb.astype(np.float32)}
    for step in steps():
        if isinstance(step, Conv):
            kernel, bias = weights[step.name]
            x, shape = columns(tensors[step.source], kernel.shape[0], step.stride, step.padded)
            y = np.maximum(x @ kernel.reshape(-1, kernel.shape[-1]) + bias, 0).reshape(*shape, -1)
            if look:
                look(step, x, y)
            tensors[step.name] = y
        elif isinstance(step, Pool):
            tensors[step.name] = pool(tensors[step.source])
        else:
            tensors[step.name] = np.concatenate([tensors[s] for s in step.sources], axis=-1)
    return tensors["conv10"]


def scores(maps):
    """Maps N x 13 x 13 x 1000 in real values -> softmax of the average, f32."""
    logits = maps.astype(np.float32).mean(axis=(1, 2))
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def multiply_adds():
    """One inference's, counted from the shapes."""
    from recipe import weights as source

    kernels, total, shapes = source.load(), 0, {"input": (SIZE, SIZE)}
    for step in steps():
        if isinstance(step, Conv):
            kernel = kernels[step.name][0]
            h, w = shapes[step.source]
            if not step.padded:
                h, w = ((s - kernel.shape[0]) // step.stride + 1 for s in (h, w))
            shapes[step.name] = (h, w)
            total += h * w * kernel.size
        elif isinstance(step, Pool):
            shapes[step.name] = tuple((s - 3) // 2 + 1 for s in shapes[step.source])
        else:
            shapes[step.name] = shapes[step.sources[0]]
    return total
