"""The detector as a list of operators, and in PyTorch: SqueezeNet v1.1 up to fire9, a neck and heads of Fire modules.

Maps are N x C x H x W in PyTorch and N x H x W x C in the file. The input is RGB bytes as floats, H and W
multiples of 32. Convolutions and pools that halve a map are padded with one row and one column at the bottom
and the right (`SAME` of an even map), so the strides are exactly 2, 4, 8, 16 and 32.

For each stride 8, 16 and 32 there are two maps: `class` with four logits and `box` with four logarithms of
distances. `decode` says what they mean.
"""

import dataclasses

import numpy as np
import torch
from torch import nn
from torch.nn import functional

CLASSES = ("person", "vehicle", "two-wheeler", "animal")
STRIDES = (8, 16, 32)
# Logarithms of distances are clamped to this range, in strides: 0.082 to 14.9.
LEAST_LOG, MOST_LOG = -2.5, 2.7
# Up to here the published network is kept as it is.
FROZEN = ("conv1", "fire2", "fire3")


@dataclasses.dataclass
class Conv:
    """A square convolution with bias, padded so that a stride of 1 keeps the size. `new`: not of SqueezeNet."""

    name: str
    source: str
    size: int
    inputs: int
    outputs: int
    stride: int = 1
    relu: bool = True
    group: str = ""
    new: bool = False


@dataclasses.dataclass
class Pool:
    """Max pooling 3x3, stride 2."""

    name: str
    source: str


@dataclasses.dataclass
class Double:
    """Every value of a map becomes 2x2."""

    name: str
    source: str


@dataclasses.dataclass
class Concat:
    """Concatenation along the channels."""

    name: str
    sources: tuple


def fire(name, source, inputs, squeeze, expand, new=False):
    """The four operators of a Fire module with 2 * expand output channels, called name/concat."""
    both = f"{name}/concat"
    return [
        Conv(f"{name}/squeeze1x1", source, 1, inputs, squeeze, new=new),
        Conv(f"{name}/expand1x1", f"{name}/squeeze1x1", 1, squeeze, expand, group=both, new=new),
        Conv(f"{name}/expand3x3", f"{name}/squeeze1x1", 3, squeeze, expand, group=both, new=new),
        Concat(both, (f"{name}/expand1x1", f"{name}/expand3x3")),
    ]


def operators():
    """Returns the operators in order of execution. The input tensor is called `input`."""
    out = [Conv("conv1", "input", 3, 3, 64, stride=2), Pool("pool1", "conv1")]
    source, inputs = "pool1", 64
    sizes = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    for number, (squeeze, expand) in enumerate(sizes, 2):
        out += fire(f"fire{number}", source, inputs, squeeze, expand)
        source, inputs = f"fire{number}/concat", 2 * expand
        if number in (3, 5):
            out.append(Pool(f"pool{number}", source))
            source = f"pool{number}"
    # Stride 32.
    out += [Pool("pool9", "fire9/concat"), *fire("fire10", "pool9", 512, 64, 128, new=True)]
    # Down to stride 16 and 8: half of the channels from the map above, half from the trunk.
    out += [
        Conv("down16", "fire10/concat", 1, 256, 96, group="join16", new=True),
        Double("double16", "down16"),
        Conv("side16", "fire9/concat", 1, 512, 96, group="join16", new=True),
        Concat("join16", ("double16", "side16")),
        *fire("fire11", "join16", 192, 48, 64, new=True),
        Conv("down8", "fire11/concat", 1, 128, 64, group="join8", new=True),
        Double("double8", "down8"),
        Conv("side8", "fire5/concat", 1, 256, 64, group="join8", new=True),
        Concat("join8", ("double8", "side8")),
        *fire("fire12", "join8", 128, 32, 64, new=True),
    ]
    for stride, source, inputs, squeeze in ((8, "fire12", 128, 32), (16, "fire11", 128, 48), (32, "fire10", 256, 64)):
        out += fire(f"head{stride}", f"{source}/concat", inputs, squeeze, 64, new=True)
        out += [
            Conv(f"class{stride}", f"head{stride}/concat", 1, 128, len(CLASSES), relu=False, new=True),
            Conv(f"box{stride}", f"head{stride}/concat", 1, 128, 4, relu=False, new=True),
        ]
    return out


OUTPUTS = tuple(f"{kind}{stride}" for stride in STRIDES for kind in ("class", "box"))


def sources(op):
    """The names of the tensors that an operator reads."""
    return op.sources if isinstance(op, Concat) else (op.source,)


def groups():
    """Returns tensor -> group. Tensors of a group share a scale: a concatenation and all that reaches it unchanged."""
    group_of = {"input": "input"}
    for op in operators():
        if isinstance(op, Conv):
            group_of[op.name] = op.group or op.name
        else:
            group_of[op.name] = op.name if isinstance(op, Concat) else group_of[op.source]
    return group_of


def shapes(height, width):
    """Returns tensor -> (height, width, channels)."""
    out = {"input": (height, width, 3)}
    for op in operators():
        h, w, c = out[sources(op)[0]]
        if isinstance(op, Conv):
            out[op.name] = (h // op.stride, w // op.stride, op.outputs)
        elif isinstance(op, Pool):
            out[op.name] = (h // 2, w // 2, c)
        elif isinstance(op, Double):
            out[op.name] = (2 * h, 2 * w, c)
        else:
            out[op.name] = (h, w, sum(out[source][2] for source in op.sources))
    return out


def multiply_adds(height, width):
    """Returns the number of multiply-adds of one inference."""
    shape = shapes(height, width)
    convs = [op for op in operators() if isinstance(op, Conv)]
    return sum(np.prod(shape[op.name][:2]) * op.size**2 * op.inputs * op.outputs for op in convs)


class Detector(nn.Module):
    """The float network. New convolutions have batch normalisation, which `kernels_of` folds into them."""

    def __init__(self):
        super().__init__()
        self.plan = operators()
        self.convs, self.norms = nn.ModuleDict(), nn.ModuleDict()
        for op in self.plan:
            if isinstance(op, Conv):
                padding = op.size // 2 if op.stride == 1 else 0
                normed = op.new and op.relu
                conv = nn.Conv2d(op.inputs, op.outputs, op.size, op.stride, padding, bias=not normed)
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                if normed:
                    self.norms[key(op.name)] = nn.BatchNorm2d(op.outputs, momentum=0.03)
                if not op.relu:
                    nn.init.normal_(conv.weight, 0, 0.01)
                    nn.init.constant_(conv.bias, -4.0 if op.name.startswith("class") else 0.7)
                self.convs[key(op.name)] = conv

    def load_trunk(self, tensors):
        """Loads SqueezeNet's layers from `trunk.convs.LAYER.weight` and `.bias` of everyday_float.safetensors."""
        for op in self.plan:
            if isinstance(op, Conv) and not op.new:
                conv = self.convs[key(op.name)]
                conv.weight.data = torch.from_numpy(tensors[f"trunk.convs.{key(op.name)}.weight"].astype(np.float32))
                conv.bias.data = torch.from_numpy(tensors[f"trunk.convs.{key(op.name)}.bias"].astype(np.float32))

    def forward(self, x):
        """Returns [(class logits N x 4 x H x W, logarithms of distances N x 4 x H x W)] for each stride."""
        tensors = {"input": x}
        for op in self.plan:
            frozen = op.name.split("/")[0] in FROZEN
            with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
                tensors[op.name] = self._run(op, *(tensors[source] for source in sources(op)))
        return [(tensors[f"class{s}"], tensors[f"box{s}"].clamp(LEAST_LOG, MOST_LOG)) for s in STRIDES]

    def _run(self, op, *inputs):
        if isinstance(op, Pool):
            return functional.max_pool2d(inputs[0], 3, 2, ceil_mode=True)
        if isinstance(op, Double):
            return functional.interpolate(inputs[0], scale_factor=2, mode="nearest")
        if isinstance(op, Concat):
            return torch.cat(inputs, 1)
        x = functional.pad(inputs[0], (0, 1, 0, 1)) if op.stride == 2 else inputs[0]
        y = self.convs[key(op.name)](x)
        if key(op.name) in self.norms:
            y = self.norms[key(op.name)](y)
        # In place: this saves a copy of every map.
        return functional.relu(y, inplace=True) if op.relu else y


def key(name):
    """The name of a layer in a state dictionary."""
    return name.replace("/", "_")


def kernels_of(model):
    """Returns layer name -> (kernel HWIO f32, bias f32), batch normalisation folded in."""
    out = {}
    for op in (op for op in model.plan if isinstance(op, Conv)):
        conv = model.convs[key(op.name)]
        kernel = conv.weight.detach().double()
        if key(op.name) in model.norms:
            norm = model.norms[key(op.name)]
            factor = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
            kernel = kernel * factor[:, None, None, None]
            bias = norm.bias.detach().double() - norm.running_mean.double() * factor
        else:
            bias = conv.bias.detach().double()
        kernel = np.ascontiguousarray(kernel.permute(2, 3, 1, 0).numpy(), np.float32)
        out[op.name] = kernel, bias.numpy().astype(np.float32)
    return out


def anchors(height, width):
    """Returns the cells' centres in pixels and their strides, K x 3, in the order of `flat`."""
    parts = []
    for stride in STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride]
        centres = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * stride
        parts.append(np.concatenate([centres, np.full((len(centres), 1), stride)], axis=1))
    return np.concatenate(parts).astype(np.float32)


def flat(maps):
    """Joins the maps of all strides: (class logits N x K x 4, logarithms N x K x 4)."""
    return tuple(torch.cat([pair[i].flatten(2) for pair in maps], 2).transpose(1, 2) for i in (0, 1))


def decode(logarithms, cells):
    """Returns boxes left, top, right, bottom in pixels, ... x K x 4, for logarithms of distances ... x K x 4.

    A cell (column x, row y) of a map of stride s has its centre at ((x + 0.5) * s, (y + 0.5) * s). The box ends
    s * exp(value) to the left of it, above, to the right and below, in this order.
    """
    distances = logarithms.exp() * cells[:, 2:3]
    return torch.cat([cells[:, :2] - distances[..., :2], cells[:, :2] + distances[..., 2:]], -1)


def batch_of(pictures):
    """Returns uint8 pictures N x H x W x 3 as the network's input."""
    tensor = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
    return tensor.float().contiguous(memory_format=torch.channels_last)
