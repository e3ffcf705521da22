"""Compares every output of the native engine with LiteRT's, bit for bit, on pictures or random inputs.

    cargo build --release -p camfire-engine --example outputs
    cd models && python -m recipe.exact ../target/release/examples/outputs MODEL.tflite [PICTURE...]

The engine runs with every kernel set that this CPU supports. Without pictures, the inputs are random. The exit
status is 1 if anything differs.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np

SETS = ("scalar", "avx2", "avx-vnni", "avx512-vnni", "neon", "dotprod", "i8mm")
RANDOM_INPUTS = 3


def litert(model):
    """Returns LiteRT's interpreter with its default delegate (XNNPACK)."""
    from ai_edge_litert.interpreter import Interpreter

    net = Interpreter(model_content=model, num_threads=1)
    net.allocate_tensors()
    return net


def inputs(source, pictures):
    """Yields (name, input): pictures stretched to the model's size as quantized RGB bytes, or random bytes."""
    _, height, width, _ = source["shape"]
    for path in pictures:
        from PIL import Image

        rgb = np.asarray(Image.open(path).convert("RGB").resize((width, height), Image.BILINEAR))
        yield path, (rgb if source["dtype"] == np.uint8 else (rgb ^ 0x80).view(np.int8))[None]
    if not pictures:
        for seed in range(RANDOM_INPUTS):
            values = np.random.default_rng(seed).integers(0, 256, source["shape"])
            yield f"random {seed}", values.astype(np.uint8).view(source["dtype"])


def main():
    program, model_path, *pictures = sys.argv[1:]
    net = litert(pathlib.Path(model_path).read_bytes())
    source, failed = net.get_input_details()[0], False
    with tempfile.TemporaryDirectory() as folder:
        given, found = f"{folder}/in", f"{folder}/out"
        for name, values in inputs(source, pictures):
            net.set_tensor(source["index"], values)
            net.invoke()
            expected = [(o["name"], net.get_tensor(o["index"])) for o in net.get_output_details()]
            pathlib.Path(given).write_bytes(values.tobytes())
            for kernels in SETS:
                run = subprocess.run([program, model_path, given, found, kernels], capture_output=True, text=True)
                if "this CPU supports only" in run.stderr:
                    continue
                if run.returncode:
                    raise SystemExit(run.stderr)
                bytes_left = pathlib.Path(found).read_bytes()
                for output, tensor in expected:
                    own = np.frombuffer(bytes_left[: tensor.nbytes], tensor.dtype).reshape(tensor.shape)
                    bytes_left = bytes_left[tensor.nbytes :]
                    differ = int((own != tensor).sum())
                    failed |= differ > 0
                    print(f"{name}, {kernels}, {output}: {differ} of {tensor.size} values differ")
    sys.exit(failed)


if __name__ == "__main__":
    main()
