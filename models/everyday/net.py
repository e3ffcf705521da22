"""SqueezeNet v1.1 up to fire9 in PyTorch, with the layer names and the input of models/recipe, and a head."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from everyday.pictures import imagenet_leaf
from recipe import network, weights


class Trunk(nn.Module):
    """The operators of recipe/network.py up to fire9. Input: RGB bytes as floats."""

    def __init__(self, kernels):
        super().__init__()
        self.plan = network.operators("fire9/concat")
        self.convs = nn.ModuleDict()
        for op in self.plan:
            if isinstance(op, network.Conv):
                kernel, bias = kernels[op.name]
                size, _, inputs, outputs = kernel.shape
                conv = nn.Conv2d(inputs, outputs, size, op.stride, size // 2 if op.padded else 0)
                conv.weight.data = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
                conv.bias.data = torch.from_numpy(bias.reshape(-1).copy())
                self.convs[op.name.replace("/", "_")] = conv

    def forward(self, x):
        tensors = {"input": x}
        for op in self.plan:
            if isinstance(op, network.Conv):
                tensors[op.name] = functional.relu(self.convs[op.name.replace("/", "_")](tensors[op.source]))
            elif isinstance(op, network.Pool):
                tensors[op.name] = functional.max_pool2d(tensors[op.source], 3, 2)
            else:
                tensors[op.name] = torch.cat([tensors[source] for source in op.sources], 1)
        return tensors[self.plan[-1].name]


class Everyday(nn.Module):
    """The trunk, the mean over positions, and a linear head. The head begins as ImageNet's classes, averaged."""

    def __init__(self, kernels, leaves, dropout=0.1):
        super().__init__()
        self.trunk = Trunk(kernels)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(512, len(leaves))
        rows = kernels["conv10"][0].reshape(512, 1000).T
        classes = np.array([imagenet_leaf(number) or "" for number in range(1000)])
        rows = [rows[classes == leaf].mean(axis=0) - rows.mean(axis=0) if leaf in classes else 0 * rows[0] for leaf in leaves]
        self.head.weight.data = torch.from_numpy(np.stack(rows).astype(np.float32))
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        return self.answer(self.trunk(x))

    def answer(self, fire9):
        """The logits for a map of fire9."""
        return self.head(self.dropout(fire9.mean((2, 3))))


class ImageNetHead(nn.Module):
    """conv10 as published, and the mean over positions: the logits of ImageNet's classes. It is never trained."""

    def __init__(self, kernels):
        super().__init__()
        kernel, bias = kernels["conv10"]
        self.conv = nn.Conv2d(512, 1000, 1)
        self.conv.weight.data = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        self.conv.bias.data = torch.from_numpy(bias.reshape(-1).copy())
        self.requires_grad_(False)

    def forward(self, fire9):
        return functional.relu(self.conv(fire9)).mean((2, 3))


def published_kernels():
    """Returns the published weights with the preprocessing folded into conv1."""
    kernels = weights.load()
    kernels["conv1"] = weights.fold_input(*kernels["conv1"])
    return kernels


def kernels_of(model):
    """Returns layer name -> (kernel HWIO f32, bias f32) of a trained model, as the recipe has them."""
    out = {}
    for op in model.trunk.plan:
        if isinstance(op, network.Conv):
            conv = model.trunk.convs[op.name.replace("/", "_")]
            kernel = conv.weight.detach().numpy().transpose(2, 3, 1, 0)
            out[op.name] = np.ascontiguousarray(kernel, np.float32), conv.bias.detach().numpy().astype(np.float32)
    return out


def batch_of(squares):
    """Returns uint8 squares N x n x n x 3 as the network's input."""
    tensor = torch.from_numpy(np.ascontiguousarray(squares)).permute(0, 3, 1, 2)
    return tensor.float().contiguous(memory_format=torch.channels_last)


def probabilities(model, squares, batch=64):
    """Returns the softmax of a model in evaluation mode, f32."""
    model.eval()
    with torch.no_grad():
        parts = [model(batch_of(squares[i : i + batch])).softmax(1) for i in range(0, len(squares), batch)]
    return torch.cat(parts).numpy()
