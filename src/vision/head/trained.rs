//! A trained head: a few dense layers over the means of maps, with ReLU between them and a softmax at the
//! end.

use super::softmax;
use engine::Map;

/// A dense layer: `outputs = weights * inputs + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// Outputs x inputs, row by row.
    pub weights: Vec<f32>,
    /// One per output.
    pub bias: Vec<f32>,
}

impl Dense {
    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.weights.len() / self.bias.len().max(1)
    }

    fn run(&self, inputs: &[f32], outputs: &mut Vec<f32>) {
        outputs.clear();
        let rows = self.weights.chunks_exact(inputs.len().max(1)).zip(&self.bias);
        outputs
            .extend(rows.map(|(row, bias)| row.iter().zip(inputs).map(|(w, x)| w * x).sum::<f32>() + bias));
    }
}

/// The layers of a head. [`super::file`] has checked that each fits the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Layers {
    /// From the first to the last; at least one.
    pub layers: Vec<Dense>,
    /// The last layer's outputs are divided by it before the softmax.
    pub temperature: f32,
}

impl Layers {
    /// Returns the probability of each output, given the means of the maps.
    pub fn run(&self, means: &[f32]) -> Vec<f32> {
        let (mut values, mut next) = (means.to_vec(), Vec::new());
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                values.iter_mut().for_each(|value| *value = value.max(0.0));
            }
            layer.run(&values, &mut next);
            std::mem::swap(&mut values, &mut next);
        }
        values.iter_mut().for_each(|value| *value /= self.temperature);
        softmax(&mut values);
        values
    }
}

/// Appends the mean of each channel over a map's positions to `means`, in real values. `values` are height x
/// width x channels quantized values.
pub fn add_means(map: &Map, values: &[i8], means: &mut Vec<f32>) {
    let mut sums = vec![0i32; map.channels];
    for position in values.chunks_exact(map.channels) {
        for (sum, &value) in sums.iter_mut().zip(position) {
            *sum += i32::from(value);
        }
    }
    let positions = (map.height * map.width) as f32;
    let zero_point = f32::from(map.zero_point);
    means.extend(sums.iter().map(|&sum| (sum as f32 / positions - zero_point) * map.scale));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_real_values_per_channel() {
        let map = Map { name: "m".into(), height: 1, width: 2, channels: 2, scale: 0.5, zero_point: -128 };
        let mut means = vec![9.0];
        add_means(&map, &[-128, -126, -120, -128], &mut means);
        assert_eq!(means, [9.0, 2.0, 0.5]);
    }

    #[test]
    fn layers_have_relu_between_them_and_a_softmax_at_the_end() {
        let hidden = Dense { weights: vec![1.0, 0.0, 0.0, -1.0], bias: vec![0.0, 0.0] };
        let last = Dense { weights: vec![2.0, 0.0, 0.0, 2.0], bias: vec![0.0, 1.0] };
        assert_eq!((hidden.inputs(), last.inputs()), (2, 2));
        // The hidden layer gives 3 and -1, which becomes 0; the last layer gives 6 and 1.
        let head = Layers { layers: vec![hidden, last], temperature: 2.0 };
        let probabilities = head.run(&[3.0, 1.0]);
        let expected = 1.0 / (1.0 + (-2.5f32).exp());
        assert!((probabilities[0] - expected).abs() < 1e-6, "{probabilities:?}");
        assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
