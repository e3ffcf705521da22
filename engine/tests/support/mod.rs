//! Shared by the tests: an allocator that counts, and a writer of arbitrary `.tflite` files.

pub mod counting_allocator;
pub mod tflite_writer;
