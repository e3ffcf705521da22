"""Writes a quantized graph as a .tflite flatbuffer (schema version 3) with the generated builders."""

from dataclasses import dataclass, field

import flatbuffers
import numpy as np
import tflite

TYPES = {
    "int8": (tflite.TensorType.INT8, np.int8),
    "uint8": (tflite.TensorType.UINT8, np.uint8),
    "int32": (tflite.TensorType.INT32, np.int32),
    "float32": (tflite.TensorType.FLOAT32, np.float32),
}


@dataclass
class Tensor:
    """A tensor of the graph: shape, type and, for constants, data.

    `scales`: one for activations, one per output channel (along `axis`) for weights, none for float.
    """

    name: str
    shape: tuple
    kind: str
    data: np.ndarray | None = None
    scales: list = field(default_factory=list)
    zero_point: int = 0
    axis: int = 0


@dataclass
class Operator:
    """An operator: its schema name, tensor indices, and the name and fields of its options table."""

    code: str
    inputs: list
    outputs: list
    options: str | None = None
    values: dict = field(default_factory=dict)
    version: int = 1


class Graph:
    """A graph of tensors and operators. `inputs` and `outputs` are tensor indices."""

    def __init__(self, description):
        self.description, self.tensors, self.operators = description, [], []
        self.inputs, self.outputs = [], []

    def tensor(self, *args, **kwargs):
        """Adds a tensor and returns its index."""
        self.tensors.append(Tensor(*args, **kwargs))
        return len(self.tensors) - 1

    def operator(self, *args, **kwargs):
        """Adds an operator."""
        self.operators.append(Operator(*args, **kwargs))

    def to_bytes(self):
        """Serializes the graph. Deterministic: the same graph gives the same bytes."""
        b = flatbuffers.Builder(1 << 21)
        codes = sorted({(o.code, o.version) for o in self.operators})
        # Buffer 0 is empty and shared by all activations.
        buffers, buffer_of = [None], {}
        for index, tensor in enumerate(self.tensors):
            if tensor.data is not None:
                buffer_of[index] = len(buffers)
                buffers.append(np.ascontiguousarray(tensor.data, TYPES[tensor.kind][1]).tobytes())

        buffer_offsets = []
        for data in buffers:
            vector = None
            if data is not None:
                # XNNPACK reads constants in place and requires them to be aligned.
                b.StartVector(1, len(data), 16)
                b.head -= len(data)
                b.Bytes[b.head : b.head + len(data)] = data
                vector = b.EndVector()
            tflite.BufferStart(b)
            if vector is not None:
                tflite.BufferAddData(b, vector)
            buffer_offsets.append(tflite.BufferEnd(b))
        tensor_offsets = [self._tensor(b, t, buffer_of.get(i, 0)) for i, t in enumerate(self.tensors)]
        operator_offsets = [self._operator(b, o, codes.index((o.code, o.version))) for o in self.operators]

        inputs, outputs = _ints(b, self.inputs), _ints(b, self.outputs)
        tensors, operators = _offsets(b, tensor_offsets), _offsets(b, operator_offsets)
        name = b.CreateString("main")
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, tensors)
        tflite.SubGraphAddInputs(b, inputs)
        tflite.SubGraphAddOutputs(b, outputs)
        tflite.SubGraphAddOperators(b, operators)
        tflite.SubGraphAddName(b, name)
        graphs = _offsets(b, [tflite.SubGraphEnd(b)])

        code_offsets = []
        for code, version in codes:
            number = getattr(tflite.BuiltinOperator, code)
            tflite.OperatorCodeStart(b)
            tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(number, 127))
            tflite.OperatorCodeAddBuiltinCode(b, number)
            tflite.OperatorCodeAddVersion(b, version)
            code_offsets.append(tflite.OperatorCodeEnd(b))
        codes_vector, buffers_vector = _offsets(b, code_offsets), _offsets(b, buffer_offsets)
        description = b.CreateString(self.description)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, codes_vector)
        tflite.ModelAddSubgraphs(b, graphs)
        tflite.ModelAddDescription(b, description)
        tflite.ModelAddBuffers(b, buffers_vector)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())

    @staticmethod
    def _tensor(b, tensor, buffer):
        name, shape = b.CreateString(tensor.name), _ints(b, tensor.shape)
        quantization = None
        if tensor.scales:
            scales = b.CreateNumpyVector(np.asarray(tensor.scales, np.float32))
            zeros = b.CreateNumpyVector(np.full(len(tensor.scales), tensor.zero_point, np.int64))
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, scales)
            tflite.QuantizationParametersAddZeroPoint(b, zeros)
            tflite.QuantizationParametersAddQuantizedDimension(b, tensor.axis)
            quantization = tflite.QuantizationParametersEnd(b)
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, TYPES[tensor.kind][0])
        tflite.TensorAddBuffer(b, buffer)
        tflite.TensorAddName(b, name)
        if quantization is not None:
            tflite.TensorAddQuantization(b, quantization)
        return tflite.TensorEnd(b)

    @staticmethod
    def _operator(b, operator, code):
        inputs, outputs = _ints(b, operator.inputs), _ints(b, operator.outputs)
        options = None
        if operator.options:
            table = operator.options
            getattr(tflite, table + "Start")(b)
            for field_name, value in operator.values.items():
                getattr(tflite, table + "Add" + field_name)(b, value)
            options = getattr(tflite, table + "End")(b)
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, code)
        tflite.OperatorAddInputs(b, inputs)
        tflite.OperatorAddOutputs(b, outputs)
        if options is not None:
            tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, operator.options))
            tflite.OperatorAddBuiltinOptions(b, options)
        return tflite.OperatorEnd(b)


def _ints(b, values):
    return b.CreateNumpyVector(np.asarray(values, np.int32))


def _offsets(b, offsets):
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()
