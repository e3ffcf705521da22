//! Turns the values of a network's outputs into boxes.

use super::{
    Detection, Fit,
    layout::{Activation, Encoding, Layout, Level, OutputShape},
    suppression::suppress,
};

/// Logarithms are limited to this, so that a box stays finite.
const MAX_LOG: f32 = 10.0;

/// The values of an output.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// The quantized values, as many as the output's shape says.
    pub values: &'a [i8],
    /// The real value of one quantization step.
    pub scale: f32,
    /// The quantized value that represents 0.
    pub zero_point: i8,
}

/// Decodes the outputs of one network.
#[derive(Debug, Clone)]
pub struct Decoder {
    layout: Layout,
    levels: Vec<Level>,
}

/// A function of a quantized value, by its byte.
struct Table([f32; 256]);

impl Table {
    fn new(tensor: &Tensor<'_>, function: impl Fn(f32) -> f32) -> Table {
        let real = |byte: usize| (f32::from(byte as u8 as i8) - f32::from(tensor.zero_point)) * tensor.scale;
        Table(std::array::from_fn(|byte| function(real(byte))))
    }

    fn of(&self, value: i8) -> f32 {
        self.0[usize::from(value as u8)]
    }
}

fn activate(activation: Activation) -> fn(f32) -> f32 {
    match activation {
        Activation::None => |value| value,
        Activation::Sigmoid => |value| 1.0 / (1.0 + (-value).exp()),
        // Divided by the sum later.
        Activation::Softmax => |value| value.clamp(-40.0, 40.0).exp(),
    }
}

impl Decoder {
    /// Checks a layout against the outputs of a network whose input has this width and height.
    ///
    /// Errors: an output that does not exist or has the wrong shape, with the key of the layout.
    pub fn new(layout: Layout, outputs: &[OutputShape], input: (usize, usize)) -> Result<Decoder, String> {
        let levels = layout.levels(outputs, input)?;
        Ok(Decoder { layout, levels })
    }

    /// The layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the objects with a score of at least `min_score` in the outputs of one run, best first. The
    /// network's input was `fit`. The outputs are in the order in which [`Decoder::new`] was given them.
    pub fn decode(&self, outputs: &[Tensor<'_>], fit: &Fit, min_score: f32) -> Vec<Detection> {
        let mut candidates = Vec::new();
        for level in &self.levels {
            self.decode_level(level, outputs, fit, min_score, &mut candidates);
        }
        suppress(candidates, self.layout.max_overlap)
    }

    fn decode_level(
        &self,
        level: &Level,
        outputs: &[Tensor<'_>],
        fit: &Fit,
        min_score: f32,
        candidates: &mut Vec<Detection>,
    ) {
        let (boxes, scores) = (&outputs[level.boxes.output], &outputs[level.scores.output]);
        let score_table = Table::new(scores, activate(self.layout.scores.activation));
        let box_table = Table::new(boxes, |value| value);
        let objectness = self.layout.objectness.as_ref().zip(level.objectness).map(|(part, place)| {
            let tensor = &outputs[place.output];
            (place, tensor.values, Table::new(tensor, activate(part.activation)))
        });
        let is_softmax = self.layout.scores.activation == Activation::Softmax;
        let background = usize::from(self.layout.scores.background);
        let (score_channels, box_channels) = (self.layout.score_channels(), self.layout.box_channels());
        for point in 0..level.columns * level.rows * level.anchors.len() {
            let at = level.scores.start + point * level.scores.step;
            let values = &scores.values[at..at + score_channels];
            // The first of the largest, so that every machine gives the same label.
            let (label, &value) = values[background..]
                .iter()
                .enumerate()
                .max_by(|(a, x), (b, y)| x.cmp(y).then(b.cmp(a)))
                .expect("there are labels");
            let mut score = score_table.of(value);
            if is_softmax {
                score /= values.iter().map(|&value| score_table.of(value)).sum::<f32>();
            }
            if let Some((place, values, table)) = &objectness {
                score *= table.of(values[place.start + point * place.step]);
            }
            if score.is_nan() || score < min_score || self.layout.labels[label].is_empty() {
                continue;
            }
            let at = level.boxes.start + point * level.boxes.step;
            let edges = self.edges(level, point, &boxes.values[at..at + box_channels], &box_table);
            if let Some(rect) = fit.to_image(edges) {
                candidates.push(Detection { label, score: score.min(1.0), rect });
            }
        }
    }

    /// Left, upper, right and lower edge of a box in pixels of the input.
    fn edges(&self, level: &Level, point: usize, values: &[i8], table: &Table) -> (f32, f32, f32, f32) {
        let stride = level.stride;
        let (cell, anchor) = (point / level.anchors.len(), level.anchors[point % level.anchors.len()]);
        let offset = self.layout.boxes.cell_offset;
        let x = ((cell % level.columns) as f32 + offset) * stride;
        let y = ((cell / level.columns) as f32 + offset) * stride;
        let real = |index: usize| table.of(values[index]);
        let exp = |value: f32| value.min(MAX_LOG).exp();
        let around = |x: f32, y: f32, width: f32, height: f32| {
            (x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0)
        };
        let from_distances = |distance: &dyn Fn(usize) -> f32| {
            let [left, top, right, bottom] = std::array::from_fn(|edge| distance(edge) * stride);
            (x - left, y - top, x + right, y + bottom)
        };
        match self.layout.boxes.encoding {
            Encoding::Distances => from_distances(&|edge| real(edge)),
            Encoding::LogDistances => from_distances(&|edge| exp(real(edge))),
            Encoding::Distribution => from_distances(&|edge| {
                let bins = self.layout.boxes.bins;
                let logits = (0..bins).map(|bin| real(edge * bins + bin));
                let largest = logits.clone().fold(f32::MIN, f32::max);
                let (mut sum, mut mean) = (0.0, 0.0);
                for (bin, logit) in logits.enumerate() {
                    let weight = (logit - largest).exp();
                    sum += weight;
                    mean += weight * bin as f32;
                }
                mean / sum
            }),
            Encoding::CentreSize => around(
                x + real(0) * stride,
                y + real(1) * stride,
                exp(real(2)) * stride,
                exp(real(3)) * stride,
            ),
            Encoding::Anchors => {
                let order = if self.layout.boxes.y_first { [1, 0, 3, 2] } else { [0, 1, 2, 3] };
                let [dx, dy, dw, dh] = order.map(real);
                let ([width, height], [by_offset, by_size]) = (anchor, self.layout.boxes.variances);
                around(
                    x + dx * by_offset * width,
                    y + dy * by_offset * height,
                    exp(dw * by_size) * width,
                    exp(dh * by_size) * height,
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::{
        detector::layout::tests::{PLAIN, YOLOX, output, plain_outputs},
        rect::Rect,
    };

    /// The whole of an image that has the size of the input, 32 x 16.
    fn whole() -> Fit {
        Fit::new(&Rect { left: 0.0, top: 0.0, width: 32.0, height: 16.0 }, (32, 16), false)
    }

    fn tensor(values: &[i8], scale: f32) -> Tensor<'_> {
        Tensor { values, scale, zero_point: 0 }
    }

    #[test]
    fn distances_are_measured_from_the_centre_of_the_cell() {
        let decoder = Decoder::new(Layout::parse(PLAIN).unwrap(), &plain_outputs(), (32, 16)).unwrap();
        let (mut scores, mut boxes) = ([-100i8; 16], [0i8; 32]);
        // The second cell of the second row: its centre is at (12, 12).
        scores[2 * 5 + 1] = 20;
        // Logarithms of 1, 1, 2 and 0.5 strides, in steps of ln 2.
        boxes[4 * 5..4 * 6].copy_from_slice(&[0, 0, 1, -1]);
        let (none, unused) = ([-100i8; 4], [0i8; 8]);
        let outputs = [
            tensor(&scores, 0.1),
            tensor(&boxes, std::f32::consts::LN_2),
            tensor(&none, 0.1),
            tensor(&unused, 1.0),
        ];
        let found = decoder.decode(&outputs, &whole(), 0.4);
        let [found] = found[..] else { panic!("{found:?}") };
        assert_eq!(found.label, 1);
        assert!((found.score - 0.8808).abs() < 1e-3, "{}", found.score);
        let expected = Rect::from_edges(4.0, 4.0, 28.0, 16.0);
        assert!(found.rect.iou(&expected) > 0.999, "{:?}", found.rect);
        assert!(decoder.decode(&outputs, &whole(), 0.9).is_empty());
    }

    #[test]
    fn yolox_multiplies_objectness_and_class() {
        let outputs = [output("all", &[1, 10, 7])];
        let decoder = Decoder::new(Layout::parse(YOLOX).unwrap(), &outputs, (32, 16)).unwrap();
        let mut values = [0i8; 70];
        // The second point of stride 16: centre (16 + 0.5 x 16, 0.25 x 16), one stride wide and high.
        values[63..70].copy_from_slice(&[50, 25, 0, 0, 80, 70, 20]);
        let found = decoder.decode(&[tensor(&values, 0.01)], &whole(), 0.3);
        let [found] = found[..] else { panic!("{found:?}") };
        assert_eq!((found.label, (found.score * 100.0).round()), (0, 56.0));
        assert!(found.rect.iou(&Rect::from_edges(16.0, 0.0, 32.0, 12.0)) > 0.999, "{:?}", found.rect);
    }

    #[test]
    fn distributions_and_anchors_are_decoded_as_in_nanodet_and_ssd() {
        let nanodet = "version = 1\nname = 'n'\nlabels = ['person']\nmin_score = 0.4\nstrides = [16]\n\
            [boxes]\noutputs = [0]\nencoding = 'distribution'\nbins = 3\nfirst_channel = 1\n\
            [scores]\noutputs = [0]\nactivation = 'sigmoid'\n";
        let outputs = [output("all", &[1, 2, 13])];
        let decoder = Decoder::new(Layout::parse(nanodet).unwrap(), &outputs, (32, 16)).unwrap();
        let mut values = [-100i8; 26];
        // Distances of 0.5, 0.5, 1 and 0 strides from (8, 8).
        values[..13]
            .copy_from_slice(&[100, 100, 100, -100, 100, 100, -100, -100, 100, -100, 100, -100, -100]);
        let found = decoder.decode(&[tensor(&values, 0.5)], &whole(), 0.4);
        let [found] = found[..] else { panic!("{found:?}") };
        assert!(found.rect.iou(&Rect::from_edges(0.0, 0.0, 24.0, 8.0)) > 0.999, "{:?}", found.rect);

        let ssd = "version = 1\nname = 's'\nlabels = ['person', '']\nmin_score = 0.4\nstrides = [16]\n\
            anchors = [[[8.0, 4.0], [16.0, 16.0]]]\n\
            [boxes]\noutputs = [0]\nencoding = 'anchors'\ny_first = true\n\
            [scores]\noutputs = [1]\nactivation = 'softmax'\nbackground = true\n";
        let outputs = [output("boxes", &[1, 4, 4]), output("scores", &[1, 4, 3])];
        let decoder = Decoder::new(Layout::parse(ssd).unwrap(), &outputs, (32, 16)).unwrap();
        // The second anchor of the first cell, moved down by a quarter of its height.
        let mut boxes = [0i8; 16];
        boxes[4] = 25;
        // Background, person, an ignored class.
        let scores = [50, 0, 0, 0, 50, 0, 50, 0, 0, 0, 0, 50];
        let found = decoder.decode(&[tensor(&boxes, 0.1), tensor(&scores, 0.1)], &whole(), 0.4);
        let [found] = found[..] else { panic!("{found:?}") };
        assert!(found.rect.iou(&Rect::from_edges(0.0, 4.0, 16.0, 16.0)) > 0.999, "{:?}", found.rect);
        assert!((found.score - 0.9867).abs() < 1e-3, "{}", found.score);
    }

    #[test]
    fn endless_boxes_and_values_that_are_no_numbers_give_no_object() {
        let decoder = Decoder::new(Layout::parse(PLAIN).unwrap(), &plain_outputs(), (32, 16)).unwrap();
        let (scores, boxes) = ([100i8; 16], [127i8; 32]);
        let (none, unused) = ([-100i8; 4], [0i8; 8]);
        for scale in [f32::NAN, f32::INFINITY, 1e30] {
            let outputs =
                [tensor(&scores, scale), tensor(&boxes, scale), tensor(&none, 0.1), tensor(&unused, 1.0)];
            for found in decoder.decode(&outputs, &whole(), 0.4) {
                assert!(found.rect.area() <= 512.0 && found.score <= 1.0, "{found:?}");
            }
        }
    }
}
