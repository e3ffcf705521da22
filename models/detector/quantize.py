#!/usr/bin/env python3
"""Turns the trained network into int8 files and checks that LiteRT computes the same maps, bit by bit.

    python models/detector/quantize.py WORK [--out models/detector] [--pictures 96] [--float]

Reads WORK/checkpoint.pt of train.py (its averaged weights) and writes detector_float.safetensors: these weights
in f16, batch normalisation folded in; with --float it starts from that file. Writes detector_320_int8.tflite and
detector_448x256_int8.tflite: the same weights and scales for two inputs.

Scales and weights are chosen as those of the ImageNet network (recipe/calibrate.py). All maps but the outputs
are of a ReLU: int8 with the zero point -128. The outputs are linear: a box's map has the fixed range of its
logarithms, a class's map that of the logits that matter.
"""

import argparse
import hashlib
import pathlib
import sys

import cv2
import numpy as np
import torch
from safetensors.numpy import load_file, save
from torch.nn import functional

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from detector import data, net  # noqa: E402
from recipe import calibrate, graph, network, quantized  # noqa: E402
from recipe.tflite_writer import Graph  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
FILES = {"detector_320_int8.tflite": (320, 320), "detector_448x256_int8.tflite": (256, 448)}
DESCRIPTION = "People, vehicles, two-wheelers, animals: SqueezeNet v1.1 with heads of Fire modules, int8; camfire models/detector"
# A logit below says: nothing (0.0025). The highest is the largest seen.
LEAST_LOGIT = -6.0
BATCH = calibrate.BATCH


def columns(op, x):
    """The im2col matrix of a batch N x H x W x C and the shape N x H' x W' of the map."""
    return network.columns(padded(op, x), op.size, op.stride, op.stride == 1 and op.size == 3)


def padded(op, x):
    """A map with the row and the column of zeros that halving needs. A zero is the least value, also of a pool."""
    halves = isinstance(op, net.Pool) or (isinstance(op, net.Conv) and op.stride == 2)
    return np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))) if halves else x


def moved(op, inputs):
    """An operator that only moves values."""
    if isinstance(op, net.Pool):
        return network.pool(padded(op, inputs[0]))
    if isinstance(op, net.Double):
        return inputs[0].repeat(2, axis=1).repeat(2, axis=2)
    return np.concatenate(inputs, axis=-1)


def convolve_float(op, kernel, bias, x):
    """A convolution of the float network, N x H x W x C."""
    x = torch.from_numpy(np.ascontiguousarray(padded(op, x).transpose(0, 3, 1, 2)))
    weight = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
    y = functional.conv2d(x, weight, torch.from_numpy(bias), op.stride, op.size // 2 if op.stride == 1 else 0)
    return (functional.relu(y) if op.relu else y).permute(0, 2, 3, 1).contiguous().numpy()


def convolve_int8(op, layer, x, input_scale, output):
    """A convolution of the int8 network: 0..255 for a ReLU's map, else the int8 values. `output`: (scale, zero)."""
    matrix, shape = columns(op, x)
    if op.relu:
        return quantized.convolve(layer, matrix, shape, input_scale, output[0])
    kernel = layer.kernel.reshape(-1, layer.kernel.shape[-1])
    sums = (matrix.astype(np.float64) @ kernel + layer.bias).astype(np.float32)
    factor = np.float32(input_scale) * layer.kernel_scales / np.float32(output[0])
    return np.clip(np.rint(sums * factor) + output[1], -128, 127).reshape(*shape, -1)


def in_batches(run, *arrays):
    """Runs batch by batch and joins the results."""
    parts = [run(*(a[i : i + BATCH] for a in arrays)) for i in range(0, len(arrays[0]), BATCH)]
    return np.concatenate(parts)


def output_scales(name, values):
    """Returns (scale, zero point) of an output."""
    low, high = (net.LEAST_LOG, net.MOST_LOG) if name.startswith("box") else (LEAST_LOGIT, max(2.0, float(values.max())))
    scale = np.float32((high - low) / 255)
    return scale, int(np.rint(-128 - low / scale))


def all_scales(kernels, rgb):
    """Returns group -> (scale, zero point as the int8 network computes: 0 for a ReLU's map)."""
    group_of, largest, counts, seen = net.groups(), {}, {}, {}
    for counting in (False, True):
        for i in range(0, len(rgb), BATCH):
            tensors = {"input": rgb[i : i + BATCH].astype(np.float32)}
            for op in net.operators():
                inputs = [tensors[source] for source in net.sources(op)]
                if not isinstance(op, net.Conv):
                    tensors[op.name] = moved(op, inputs)
                    continue
                y = tensors[op.name] = convolve_float(op, *kernels[op.name], inputs[0])
                group = group_of[op.name]
                if not op.relu:
                    seen.setdefault(group, []).append(y.max())
                elif counting:
                    counts[group] = counts.get(group, 0) + np.histogram(y, calibrate.BINS, (0, largest[group]))[0]
                else:
                    largest[group] = max(largest.get(group, 1e-6), float(y.max()))
    scales = {"input": (np.float32(1), 0)}
    scales |= {group: (np.float32(calibrate.least_error_scale(largest[group], counts[group])), 0) for group in largest}
    return scales | {group: output_scales(group, np.array(values)) for group, values in seen.items()}


def calibrated(kernels, rgb):
    """Returns (layer name -> Layer, group -> (scale, zero point)) for pictures N x H x W x 3, uint8."""
    scales, group_of = all_scales(kernels, rgb), net.groups()
    real, quants, layers = {"input": rgb.astype(np.float32)}, {"input": rgb.astype(np.float32)}, {}
    last_use = {source: op.name for op in net.operators() for source in net.sources(op)}
    for op in net.operators():
        inputs = net.sources(op)
        if isinstance(op, net.Conv):
            (source,), (kernel, bias) = inputs, kernels[op.name]
            input_scale, output = scales[group_of[source]][0], scales[group_of[op.name]]
            moments = moments_of(op, kernel, real[source], quants[source], input_scale)
            layer = layers[op.name] = calibrate.fit_layer(kernel, bias, moments, input_scale)
            real[op.name] = in_batches(lambda x: convolve_float(op, kernel, bias, x), real[source])
            quants[op.name] = in_batches(lambda x: convolve_int8(op, layer, x, input_scale, output), quants[source])
        else:
            for tensors in (real, quants):
                tensors[op.name] = in_batches(lambda *parts: moved(op, parts), *(tensors[s] for s in inputs))
        for source in inputs:
            if last_use[source] == op.name:
                del real[source], quants[source]
    return layers, scales


def moments_of(op, kernel, real, quants, scale):
    """calibrate.Moments of an operator, whose padding only this module knows."""

    class Padded:
        stride, padded = op.stride, op.stride == 1 and op.size == 3

    return calibrate.Moments.of(Padded, kernel, padded(op, real), padded(op, quants), scale)


def run_int8(layers, scales, rgb):
    """Returns output name -> int8 values as f32 for pictures N x H x W x 3, as the file computes them."""
    group_of, tensors = net.groups(), {"input": rgb.astype(np.float32)}
    for op in net.operators():
        inputs = [tensors[source] for source in net.sources(op)]
        if isinstance(op, net.Conv):
            scale, output = scales[group_of[op.source]][0], scales[group_of[op.name]]
            tensors[op.name] = convolve_int8(op, layers[op.name], inputs[0], scale, output)
        else:
            tensors[op.name] = moved(op, inputs)
    return {name: tensors[name] for name in net.OUTPUTS}


def file_of(layers, scales, height, width):
    """Returns the bytes of the .tflite file."""
    g, shape, group_of = Graph(DESCRIPTION), net.shapes(height, width), net.groups()
    index = {"input": g.tensor("rgb", (1, height, width, 3), "int8", scales=[1.0], zero_point=-128)}
    for op in net.operators():
        inputs = [index[source] for source in net.sources(op)]
        scale, zero = scales[group_of[op.name]]
        linear = isinstance(op, net.Conv) and not op.relu
        zero = zero if linear else -128
        index[op.name] = output = g.tensor(op.name, (1, *shape[op.name]), "int8", scales=[scale], zero_point=zero)
        if isinstance(op, net.Conv):
            layer = layers[op.name]
            kernel = layer.kernel.transpose(3, 0, 1, 2)  # HWIO -> OHWI, the order in the file
            weights = g.tensor(f"{op.name}/weights", kernel.shape, "int8", kernel, list(layer.kernel_scales))
            factors = list(np.float32(scales[group_of[op.source]][0]) * layer.kernel_scales.astype(np.float32))
            bias = g.tensor(f"{op.name}/bias", layer.bias.shape, "int32", layer.bias, factors)
            options = graph.conv_options(op.stride, padded=True, relu=op.relu)
            g.operator("CONV_2D", [*inputs, weights, bias], [output], "Conv2DOptions", options, version=3)
        elif isinstance(op, net.Pool):
            options = {**graph.POOL_OPTIONS, "Padding": 0}
            g.operator("MAX_POOL_2D", inputs, [output], "Pool2DOptions", options, version=2)
        elif isinstance(op, net.Double):
            size = g.tensor(f"{op.name}/size", (2,), "int32", np.array(shape[op.name][:2]))
            options = {"AlignCorners": False, "HalfPixelCenters": False}
            g.operator("RESIZE_NEAREST_NEIGHBOR", [*inputs, size], [output], "ResizeNearestNeighborOptions", options, version=2)
        else:
            options = {"Axis": 3, "FusedActivationFunction": 0}
            g.operator("CONCATENATION", inputs, [output], "ConcatenationOptions", options, version=2)
    g.inputs, g.outputs = [index["input"]], [index[name] for name in net.OUTPUTS]
    return g.to_bytes()


def interpreter(content, threads=1):
    """Returns a function from one picture H x W x 3 uint8 to {output name: int8 map H x W x C}, by LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_content=content, num_threads=threads)
    run.allocate_tensors()
    details = {d["name"]: d["index"] for d in run.get_output_details()}

    def call(rgb):
        run.set_tensor(run.get_input_details()[0]["index"], (rgb.astype(np.int16) - 128).astype(np.int8)[None])
        run.invoke()
        return {name: run.get_tensor(number)[0] for name, number in details.items()}

    return call


def output_quantization(content):
    """Returns output name -> (scale, zero point) of a file."""
    from ai_edge_litert.interpreter import Interpreter

    return {d["name"]: d["quantization"] for d in Interpreter(model_content=content).get_output_details()}


def calibration_pictures(work, count, height, width):
    """Training pictures: one half as they are, the other half changed and put together as in training."""
    everything, random = data.load(work, "train"), np.random.default_rng(7)
    samples = data.Samples(everything)
    plain = [samples.pictures[int(np.searchsorted(samples.weights, random.random()))] for _ in range(count // 2)]
    out = [data.fitted(picture.rgb, width, height)[0] for picture in plain]
    out += [cv2.resize(samples.draw(random, 320)[0], (width, height)) for _ in range(count - len(out))]
    return np.stack(out)


def saved_kernels(file):
    """Reads detector_float.safetensors: layer name -> (kernel HWIO f32, bias f32)."""
    tensors = {name: array.astype(np.float32) for name, array in load_file(file).items()}
    return {name[:-7]: (tensors[name], tensors[f"{name[:-7]}.bias"]) for name in tensors if name.endswith(".kernel")}


def trained_kernels(work, name="checkpoint"):
    """The averaged weights of train.py, batch normalisation folded in."""
    model = net.Detector()
    model.load_state_dict(torch.load(work / f"{name}.pt")["averaged"])
    return net.kernels_of(model)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path, help="folder of data.py and train.py")
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    parser.add_argument("--float", action="store_true", help="start from detector_float.safetensors in --out")
    parser.add_argument("--pictures", type=int, default=96, help="for calibration")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)

    weights_file = arguments.out / "detector_float.safetensors"
    if not arguments.float:
        halves = {}
        for name, (kernel, bias) in trained_kernels(arguments.work).items():
            halves |= {f"{name}.kernel": kernel.astype(np.float16), f"{name}.bias": bias.astype(np.float16)}
        weights_file.write_bytes(save(halves, {"classes": ",".join(net.CLASSES)}))
    kernels = saved_kernels(weights_file)
    rgb = calibration_pictures(arguments.work, arguments.pictures, 320, 320)
    layers, scales = calibrated(kernels, rgb)
    for name, (height, width) in FILES.items():
        content = file_of(layers, scales, height, width)
        run = interpreter(content)
        for picture in calibration_pictures(arguments.work, 4, height, width):
            ours, litert = run_int8(layers, scales, picture[None]), run(picture)
            for output in net.OUTPUTS:
                differing = np.count_nonzero(ours[output][0] != litert[output])
                if differing:
                    raise SystemExit(f"{name}: LiteRT computes another {output}: {differing} values")
        (arguments.out / name).write_bytes(content)
        adds = net.multiply_adds(height, width)
        print(f"{name}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
        print(f"    {adds} multiply-adds, LiteRT agrees on 4 pictures")
    print(f"{weights_file.name}: sha256 {hashlib.sha256(weights_file.read_bytes()).hexdigest()}")
    for name in net.OUTPUTS:
        print(f"    {name}: scale {scales[name][0]:.8f} zero point {scales[name][1]}")


if __name__ == "__main__":
    main()
