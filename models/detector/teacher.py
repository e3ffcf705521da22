"""What YOLOX-nano says of each cell: the soft targets of the training.

Its cells at an input of the detector's size are the detector's cells, in the same order, so that its answers
need no assignment.
"""

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from detector.net import CLASSES, STRIDES
from everyday import teacher

KINDS = {"car": "vehicle", "bus": "vehicle", "truck": "vehicle", "bicycle": "two-wheeler", "motorcycle": "two-wheeler"}
KINDS |= {"person": "person"}
KINDS |= dict.fromkeys("bird cat dog horse sheep cow elephant bear zebra giraffe".split(), "animal")
MEMBERS = [[i for i, name in enumerate(teacher.COCO) if KINDS.get(name) == kind] for kind in CLASSES]
VALUES = 5 + len(teacher.COCO)


def resized(file, side, batch):
    """Returns the file's network for an input of batch x 3 x side x side, as bytes."""
    model = onnx.load(file)
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    sizes[0].dim_value, sizes[2].dim_value, sizes[3].dim_value = batch, side, side
    del model.graph.value_info[:]
    sizes = model.graph.output[0].type.tensor_type.shape.dim
    sizes[0].dim_value, sizes[1].dim_value = batch, sum((side // stride) ** 2 for stride in STRIDES)
    targets = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    for tensor in model.graph.initializer:
        if tensor.name in targets:
            tensor.CopyFrom(numpy_helper.from_array(np.array([batch, VALUES, -1], np.int64), tensor.name))
    return model.SerializeToString()


class Teacher:
    """YOLOX-nano for batches of one size, on one thread."""

    def __init__(self, file, side, batch):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(resized(file, side, batch), options)
        self.name = self.session.get_inputs()[0].name
        self.cells, self.strides = teacher.grid(side)

    def __call__(self, pictures):
        """Returns (scores N x K x 4, boxes N x K x 4) of uint8 pictures N x side x side x 3.

        The score of a class: that at least one of the COCO classes in it is there. Boxes: left, top, right,
        bottom in pixels.
        """
        bgr = np.ascontiguousarray(pictures[..., ::-1].transpose(0, 3, 1, 2), np.float32)
        rows = self.session.run(None, {self.name: bgr})[0]
        none = np.stack([(1 - rows[..., 5:][..., members]).prod(-1) for members in MEMBERS], -1)
        scores = rows[..., 4:5] * (1 - none)
        centres = (rows[..., :2] + self.cells) * self.strides
        halves = np.exp(rows[..., 2:4]) * self.strides / 2
        return scores.astype(np.float32), np.concatenate([centres - halves, centres + halves], -1).astype(np.float32)
