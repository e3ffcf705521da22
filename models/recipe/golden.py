"""Writes the engine's test data: photos with LiteRT's output maps, and small graphs to accept or reject."""

import importlib.metadata
import json
import pathlib

import numpy as np
from PIL import Image

from recipe import graph, network, quantized
from recipe.tflite_writer import Graph

# CC0 and public-domain photographs that scikit-image ships.
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def run_litert(model, quants):
    """Runs one int8 input through LiteRT with its default delegate (XNNPACK). Returns the int8 output."""
    from ai_edge_litert.interpreter import Interpreter

    net = Interpreter(model_content=model, num_threads=1)
    net.allocate_tensors()
    net.set_tensor(net.get_input_details()[0]["index"], quants)
    net.invoke()
    return net.get_tensor(net.get_output_details()[0]["index"])


def write_photos(folder, model, scale, labels, sha256):
    """Writes golden.json and, per photo, `NAME.png` (227 x 227) and `NAME.map.png`.

    A map has 169 rows of 1000 channels; a pixel is the int8 value + 128.
    """
    import skimage

    folder.mkdir(parents=True, exist_ok=True)
    source = pathlib.Path(skimage.__file__).parent / "data"
    recorded = []
    for file in PHOTOS:
        image = Image.open(source / file).convert("RGB")
        rgb = np.asarray(image.resize((network.SIZE, network.SIZE), Image.HAMMING))
        name = file.split(".")[0]
        Image.fromarray(rgb).save(folder / f"{name}.png", optimize=True)
        quants = run_litert(model, (rgb.astype(np.int16) - 128).astype(np.int8)[None])
        grey = (quants.astype(np.int16) + 128).astype(np.uint8).reshape(-1, network.CLASSES)
        Image.fromarray(grey).save(folder / f"{name}.map.png", optimize=True)
        scores = network.scores((grey.astype(np.float32) * scale).reshape(1, network.MAP, network.MAP, -1))[0]
        top5 = [
            {"index": int(i), "label": labels[i], "score": round(float(scores[i]), 6)}
            for i in np.argsort(-scores, kind="stable")[:5]
        ]
        recorded.append({"file": f"{name}.png", "map": f"{name}.map.png", "top5": top5})
    lines = ",\n".join("    " + json.dumps(photo) for photo in recorded)
    head = {
        "model_sha256": sha256,
        "litert": importlib.metadata.version("ai-edge-litert"),
        "scale": float(scale),
        "zero_point": -128,
    }
    text = json.dumps(head)[:-1] + ', "photos": [\n' + lines + "\n]}\n"
    (folder / "golden.json").write_text(text)


def tiny(seed=0, per_channel=True, input_shape=(1, 16, 16, 3), **changes):
    """Returns a 2 kB graph with SqueezeNet's operators: conv 3x3/2, pool, two expands, concatenation, 1x1
    conv.

    `changes`: `input_kind`, `input_scale`, `end` (an operator after the map), `second_scale`, `two_outputs`.
    """
    random = np.random.default_rng(seed)
    g = Graph("camfire test graph")
    channels = input_shape[3]
    input_kind, input_scale = changes.get("input_kind", "int8"), changes.get("input_scale", 1.0)
    zero = -128 if input_kind == "int8" else 0
    source = g.tensor("rgb", input_shape, input_kind, scales=[input_scale], zero_point=zero)
    g.inputs = [source]
    if input_kind == "uint8":
        converted = g.tensor("int8", input_shape, "int8", scales=[input_scale], zero_point=-128)
        g.operator("QUANTIZE", [source], [converted], "QuantizeOptions", version=1)
        source = converted

    def conv(name, source, source_scale, shape, kernel_shape, scale, stride=1, padded=False):
        kernel = random.integers(-127, 128, kernel_shape).astype(np.float32)
        count = kernel_shape[3] if per_channel else 1
        scales = random.uniform(0.5, 1.5, count).astype(np.float32) / np.float32(127 * kernel_shape[2])
        bias = random.integers(-2000, 2000, kernel_shape[3]).astype(np.float32)
        layer = quantized.Layer(kernel, scales, bias)
        output = g.tensor(name, shape, "int8", scales=[scale], zero_point=-128)
        graph.add_convolution(g, name, source, layer, source_scale, output, stride, padded)
        return output

    first = conv("conv1", source, 1.0, (1, 7, 7, 8), (3, 3, channels, 8), 4.0, stride=2)
    pooled = g.tensor("pool1", (1, 3, 3, 8), "int8", scales=[4.0], zero_point=-128)
    g.operator("MAX_POOL_2D", [first], [pooled], "Pool2DOptions", graph.POOL_OPTIONS, version=2)
    one = conv("expand1x1", pooled, 4.0, (1, 3, 3, 8), (1, 1, 8, 8), 3.0)
    second_scale = changes.get("second_scale", 3.0)
    three = conv("expand3x3", pooled, 4.0, (1, 3, 3, 8), (3, 3, 8, 8), second_scale, padded=True)
    both = g.tensor("concat", (1, 3, 3, 16), "int8", scales=[3.0], zero_point=-128)
    options = {"Axis": 3, "FusedActivationFunction": 0}
    g.operator("CONCATENATION", [one, three], [both], "ConcatenationOptions", options, version=2)
    last = conv("conv10", both, 3.0, (1, 3, 3, 10), (1, 1, 16, 10), 2.0)
    g.outputs = [last]
    if changes.get("end") == "MEAN":
        axes = g.tensor("axes", (2,), "int32", np.array([1, 2]))
        mean = g.tensor("mean", (1, 1, 1, 10), "int8", scales=[2.0], zero_point=-128)
        g.operator("MEAN", [last, axes], [mean], "ReducerOptions", {"KeepDims": True}, version=2)
        g.outputs = [mean]
    if changes.get("end") == "SOFTMAX":
        soft = g.tensor("softmax", (1, 3, 3, 10), "int8", scales=[1 / 256], zero_point=-128)
        g.operator("SOFTMAX", [last], [soft], "SoftmaxOptions", {"Beta": 1.0}, version=2)
        g.outputs = [soft]
    if changes.get("two_outputs"):
        g.outputs = [last, both]
    return g


def float_graph():
    """Returns a graph with one float convolution."""
    g = Graph("camfire test graph")
    source = g.tensor("rgb", (1, 16, 16, 3), "float32")
    weights = g.tensor("weights", (4, 1, 1, 3), "float32", np.ones((4, 1, 1, 3)))
    bias = g.tensor("bias", (4,), "float32", np.zeros(4))
    output = g.tensor("map", (1, 16, 16, 4), "float32")
    options = graph.conv_options(1, padded=False)
    g.operator("CONV_2D", [source, weights, bias], [output], "Conv2DOptions", options)
    g.inputs, g.outputs = [source], [output]
    return g


def write_graphs(folder):
    """Writes graphs to reject, and two graphs to run with an input and LiteRT's output as raw int8."""
    folder.mkdir(parents=True, exist_ok=True)
    graphs = {
        "tiny": tiny(),
        "per_tensor_weights": tiny(per_channel=False),
        "ends_in_mean": tiny(end="MEAN"),
        "ends_in_softmax": tiny(end="SOFTMAX"),
        "uint8_input": tiny(input_kind="uint8"),
        "float_input": float_graph(),
        "wrong_scale_input": tiny(input_scale=0.5),
        "four_channel_input": tiny(input_shape=(1, 16, 16, 4)),
        "concat_of_two_scales": tiny(second_scale=6.0),
        "two_outputs": tiny(two_outputs=True),
    }
    for name, g in graphs.items():
        (folder / f"{name}.tflite").write_bytes(g.to_bytes())
    quants = np.random.default_rng(1).integers(-128, 128, (1, 16, 16, 3)).astype(np.int8)
    (folder / "input.bin").write_bytes(quants.tobytes())
    for name in ("tiny", "per_tensor_weights"):
        (folder / f"{name}.map.bin").write_bytes(run_litert(graphs[name].to_bytes(), quants).tobytes())
