//! Writes `.tflite` files that no converter would write: any number of tensors and operators can share
//! tables, vectors and strings.
//!
//! Nodes are created children first and written parents first, because offsets only point forward. Slots are
//! those of tensorflow/lite/schema/schema.fbs.

/// The index of a node.
pub type Id = usize;

enum Node {
    /// Fields by slot.
    Table(Vec<(usize, Field)>),
    /// The number of elements, and their bytes.
    Vector(usize, Vec<u8>),
    Tables(Vec<Id>),
}

enum Field {
    Scalar(Vec<u8>),
    Node(Id),
}

/// Codes of `TensorType`.
pub const INT32: u8 = 2;
pub const UINT8: u8 = 3;
pub const INT8: u8 = 9;

/// Codes of `BuiltinOperator`, and types of `BuiltinOptions`.
pub const CONCATENATION: (i32, u8) = (2, 10);
pub const CONVOLUTION: (i32, u8) = (3, 1);
pub const DEPTHWISE: (i32, u8) = (4, 2);
pub const LOGISTIC: (i32, u8) = (14, 0);
pub const MULTIPLY: (i32, u8) = (18, 21);
pub const RESHAPE: (i32, u8) = (22, 17);
pub const SOFTMAX: (i32, u8) = (25, 9);
pub const TRANSPOSE: (i32, u8) = (39, 26);
pub const MEAN: (i32, u8) = (40, 27);
pub const STRIDED_SLICE: (i32, u8) = (45, 32);
pub const SHAPE: (i32, u8) = (77, 55);
pub const RESIZE_NEAREST: (i32, u8) = (97, 74);
pub const LEAKY_RELU: (i32, u8) = (98, 75);

/// Builds one graph.
pub struct Writer {
    nodes: Vec<Node>,
    buffers: Vec<Id>,
    codes: Vec<i32>,
    tensors: Vec<Id>,
    operators: Vec<Id>,
}

impl Writer {
    pub fn new() -> Writer {
        let nodes = vec![Node::Table(Vec::new())];
        Writer { nodes, buffers: vec![0], codes: Vec::new(), tensors: Vec::new(), operators: Vec::new() }
    }

    fn node(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Adds a vector of i32.
    pub fn ints(&mut self, numbers: &[i32]) -> Id {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.node(Node::Vector(numbers.len(), bytes))
    }

    /// Adds a vector of bytes or a string.
    pub fn bytes(&mut self, bytes: &[u8]) -> Id {
        self.node(Node::Vector(bytes.len(), bytes.to_vec()))
    }

    /// Adds a buffer and returns its index.
    pub fn buffer(&mut self, bytes: &[u8]) -> u32 {
        let data = self.bytes(bytes);
        let buffer = self.node(Node::Table(vec![(0, Field::Node(data))]));
        self.buffers.push(buffer);
        self.buffers.len() as u32 - 1
    }

    /// Adds a quantization with `count` equal scales and zero points.
    pub fn quantization(&mut self, scale: f32, zero: i64, count: usize) -> Id {
        let scales = self.node(Node::Vector(count, scale.to_le_bytes().repeat(count)));
        let zeros = self.node(Node::Vector(count, zero.to_le_bytes().repeat(count)));
        self.node(Node::Table(vec![(2, Field::Node(scales)), (3, Field::Node(zeros))]))
    }

    /// Adds a tensor's table. It becomes a tensor of the graph with [`Writer::add`].
    pub fn table(&mut self, shape: &[i32], kind: u8, buffer: u32, quantization: Id, name: &str) -> Id {
        let (shape, name) = (self.ints(shape), self.bytes(name.as_bytes()));
        let fields = vec![
            (0, Field::Node(shape)),
            (1, Field::Scalar(vec![kind])),
            (2, Field::Scalar(buffer.to_le_bytes().to_vec())),
            (3, Field::Node(name)),
            (4, Field::Node(quantization)),
        ];
        self.node(Node::Table(fields))
    }

    /// Adds `times` tensors that share one table, and returns the index of the first.
    pub fn add(&mut self, table: Id, times: usize) -> i32 {
        self.tensors.extend(std::iter::repeat_n(table, times));
        (self.tensors.len() - times) as i32
    }

    /// Adds an int8 activation of scale 1 and returns its index.
    pub fn activation(&mut self, shape: &[i32]) -> i32 {
        let quantization = self.quantization(1.0, -128, 1);
        let table = self.table(shape, INT8, 0, quantization, "activation");
        self.add(table, 1)
    }

    /// Adds a constant vector of int32 and returns its index.
    pub fn constant(&mut self, values: &[i32]) -> i32 {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let (data, quantization) = (self.buffer(&bytes), self.quantization(1.0, 0, 1));
        let table = self.table(&[values.len() as i32], INT32, data, quantization, "constant");
        self.add(table, 1)
    }

    /// Adds an options table with i32 fields.
    pub fn options(&mut self, fields: &[(usize, i32)]) -> Id {
        let scalar = |&(slot, value): &(usize, i32)| (slot, Field::Scalar(value.to_le_bytes().to_vec()));
        self.node(Node::Table(fields.iter().map(scalar).collect()))
    }

    /// Adds an operator; `inputs`, `outputs` and `options` are nodes.
    pub fn operator(&mut self, (code, options_type): (i32, u8), inputs: Id, outputs: Id, options: Id) {
        let index = self.codes.iter().position(|&known| known == code).unwrap_or_else(|| {
            self.codes.push(code);
            self.codes.len() - 1
        });
        let operator = self.node(Node::Table(vec![
            (0, Field::Scalar((index as u32).to_le_bytes().to_vec())),
            (1, Field::Node(inputs)),
            (2, Field::Node(outputs)),
            (3, Field::Scalar(vec![options_type])),
            (4, Field::Node(options)),
        ]));
        self.operators.push(operator);
    }

    /// Adds an operator with its own inputs, outputs and options.
    pub fn plain(&mut self, code: (i32, u8), inputs: &[i32], outputs: &[i32], options: &[(usize, i32)]) {
        let (inputs, outputs, options) = (self.ints(inputs), self.ints(outputs), self.options(options));
        self.operator(code, inputs, outputs, options);
    }

    /// Finishes the graph and returns the file.
    pub fn file(mut self, inputs: &[i32], outputs: &[i32]) -> Vec<u8> {
        let (inputs, outputs) = (self.ints(inputs), self.ints(outputs));
        let (tensors, operators) = (std::mem::take(&mut self.tensors), std::mem::take(&mut self.operators));
        let (tensors, operators) = (self.node(Node::Tables(tensors)), self.node(Node::Tables(operators)));
        let subgraph = self.node(Node::Table(vec![
            (0, Field::Node(tensors)),
            (1, Field::Node(inputs)),
            (2, Field::Node(outputs)),
            (3, Field::Node(operators)),
        ]));
        let subgraphs = self.node(Node::Tables(vec![subgraph]));
        let codes = std::mem::take(&mut self.codes);
        let codes: Vec<Id> = codes
            .into_iter()
            .map(|code| self.node(Node::Table(vec![(3, Field::Scalar(code.to_le_bytes().to_vec()))])))
            .collect();
        let codes = self.node(Node::Tables(codes));
        let buffers = std::mem::take(&mut self.buffers);
        let buffers = self.node(Node::Tables(buffers));
        let root = vec![(1, Field::Node(codes)), (2, Field::Node(subgraphs)), (4, Field::Node(buffers))];
        self.node(Node::Table(root));
        self.serialize()
    }

    fn serialize(&self) -> Vec<u8> {
        let mut file = b"\0\0\0\0TFL3".to_vec();
        let mut positions = vec![0; self.nodes.len()];
        // The position of each offset, and the node it points to.
        let mut offsets = vec![(0, self.nodes.len() - 1)];
        for (id, node) in self.nodes.iter().enumerate().rev() {
            match node {
                Node::Table(fields) => {
                    let slots = fields.iter().map(|field| field.0 + 1).max().unwrap_or(0);
                    let (vtable, mut distances) = (file.len(), vec![0u16; slots]);
                    let table = vtable + 4 + 2 * slots;
                    let mut content = ((table - vtable) as i32).to_le_bytes().to_vec();
                    for (slot, field) in fields {
                        distances[*slot] = content.len() as u16;
                        match field {
                            Field::Scalar(bytes) => content.extend(bytes),
                            Field::Node(node) => {
                                offsets.push((table + content.len(), *node));
                                content.extend([0; 4]);
                            }
                        }
                    }
                    file.extend(((table - vtable) as u16).to_le_bytes());
                    file.extend((content.len() as u16).to_le_bytes());
                    file.extend(distances.iter().flat_map(|distance| distance.to_le_bytes()));
                    positions[id] = file.len();
                    file.extend(content);
                }
                Node::Vector(count, bytes) => {
                    positions[id] = file.len();
                    file.extend((*count as u32).to_le_bytes());
                    file.extend(bytes);
                }
                Node::Tables(tables) => {
                    positions[id] = file.len();
                    file.extend((tables.len() as u32).to_le_bytes());
                    for &table in tables {
                        offsets.push((file.len(), table));
                        file.extend([0; 4]);
                    }
                }
            }
        }
        for (at, node) in offsets {
            file[at..at + 4].copy_from_slice(&((positions[node] - at) as u32).to_le_bytes());
        }
        file
    }
}
