"""Builds the quantized SqueezeNet as a .tflite graph.

Input: RGB bytes as int8 (byte - 128, scale 1). Output: the map of the last operator.
"""

import numpy as np

from recipe import network
from recipe.tflite_writer import Graph


def conv_options(stride, padded, relu=True):
    """Returns the fields of Conv2DOptions."""
    return {
        "Padding": 0 if padded else 1,
        "StrideW": stride,
        "StrideH": stride,
        "DilationWFactor": 1,
        "DilationHFactor": 1,
        "FusedActivationFunction": 1 if relu else 0,
    }


POOL_OPTIONS = {
    "Padding": 1,
    "StrideW": 2,
    "StrideH": 2,
    "FilterWidth": 3,
    "FilterHeight": 3,
    "FusedActivationFunction": 0,
}


def add_convolution(graph, name, source, layer, input_scale, output, stride, padded):
    """Adds a CONV_2D with fused ReLU that reads tensor `source` and writes tensor `output`."""
    kernel = layer.kernel.transpose(3, 0, 1, 2)  # HWIO -> OHWI, the order in the file
    weights = graph.tensor(f"{name}/weights", kernel.shape, "int8", kernel, list(layer.kernel_scales))
    bias_scales = list(np.float32(input_scale) * layer.kernel_scales.astype(np.float32))
    bias = graph.tensor(f"{name}/bias", layer.bias.shape, "int32", layer.bias, bias_scales)
    # Version 3 is the first version with int8 and per-channel scales.
    options = conv_options(stride, padded)
    graph.operator("CONV_2D", [source, weights, bias], [output], "Conv2DOptions", options, version=3)


DESCRIPTION = "SqueezeNet v1.1, ImageNet, int8; RGB bytes in, conv10 map out; camfire models/README.md"


def squeezenet(layers, scales, size=network.SIZE, last=network.LAST, description=DESCRIPTION):
    """Returns the graph of a network that ends at `last`, by default the shipped one."""
    graph = Graph(description)
    shape = {"input": (1, size, size, 3)}
    index = {"input": graph.tensor("rgb", shape["input"], "int8", scales=[1.0], zero_point=-128)}
    group_of = network.groups(last) | {"input": "input"}

    def activation(name, tensor_shape):
        shape[name] = tensor_shape
        index[name] = graph.tensor(name, tensor_shape, "int8", scales=[scales[group_of[name]]], zero_point=-128)
        return index[name]

    for op in network.operators(last):
        if isinstance(op, network.Conv):
            layer = layers[op.name]
            _, h, w, _ = shape[op.source]
            if not op.padded:
                h, w = ((s - layer.kernel.shape[0]) // op.stride + 1 for s in (h, w))
            output = activation(op.name, (1, h, w, layer.kernel.shape[-1]))
            source_scale = scales[group_of[op.source]]
            add_convolution(graph, op.name, index[op.source], layer, source_scale, output, op.stride, op.padded)
        elif isinstance(op, network.Pool):
            _, h, w, c = shape[op.source]
            output = activation(op.name, (1, (h - 3) // 2 + 1, (w - 3) // 2 + 1, c))
            graph.operator("MAX_POOL_2D", [index[op.source]], [output], "Pool2DOptions", POOL_OPTIONS, version=2)
        else:
            _, h, w, _ = shape[op.sources[0]]
            output = activation(op.name, (1, h, w, sum(shape[s][3] for s in op.sources)))
            inputs = [index[s] for s in op.sources]
            options = {"Axis": 3, "FusedActivationFunction": 0}
            graph.operator("CONCATENATION", inputs, [output], "ConcatenationOptions", options, version=2)
    graph.inputs, graph.outputs = [index["input"]], [index[last]]
    return graph
