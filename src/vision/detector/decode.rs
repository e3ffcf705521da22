//! Turns the values of a network's outputs into boxes.

use super::{
    Detection, Fit,
    layout::{Activation, Encoding, Layout, Level, Output},
    suppression::suppress,
};

/// Logarithms are limited to this, so that a box stays finite.
const MAX_LOG: f32 = 10.0;

/// Decodes the outputs of one network.
#[derive(Debug, Clone)]
pub struct Decoder {
    layout: Layout,
    levels: Vec<(Level, Tables)>,
}

/// What the quantized values of one stride mean.
#[derive(Debug, Clone)]
struct Tables {
    boxes: Table,
    scores: Table,
    objectness: Option<Table>,
}

/// A function of a quantized value, by its byte.
#[derive(Debug, Clone)]
struct Table(Box<[f32; 256]>);

impl Table {
    fn new(output: &Output, function: impl Fn(f32) -> f32) -> Table {
        let value = |byte: u8| if output.is_signed { i32::from(byte as i8) } else { i32::from(byte) };
        let real = |byte: usize| (value(byte as u8) - output.zero_point) as f32 * output.scale;
        Table(Box::new(std::array::from_fn(|byte| function(real(byte)))))
    }

    fn of(&self, byte: u8) -> f32 {
        self.0[usize::from(byte)]
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

/// The exponential function, which stays finite.
fn exp(value: f32) -> f32 {
    value.min(MAX_LOG).exp()
}

impl Decoder {
    /// Checks a layout against the outputs of a network whose input has this width and height.
    ///
    /// Errors: an output that does not exist or has the wrong shape, with the key of the layout.
    pub fn new(layout: Layout, outputs: &[Output], input: (usize, usize)) -> Result<Decoder, String> {
        let tables = |level: &Level| Tables {
            boxes: Table::new(
                &outputs[level.boxes.output],
                match layout.boxes.encoding {
                    Encoding::LogDistances => exp,
                    _ => |value| value,
                },
            ),
            scores: Table::new(&outputs[level.scores.output], activate(layout.scores.activation)),
            objectness: layout
                .objectness
                .as_ref()
                .zip(level.objectness)
                .map(|(part, place)| Table::new(&outputs[place.output], activate(part.activation))),
        };
        let levels = layout.levels(outputs, input)?.into_iter().map(|level| {
            let tables = tables(&level);
            (level, tables)
        });
        let levels = levels.collect();
        Ok(Decoder { layout, levels })
    }

    /// Returns the objects with a score of at least `min_score` in the outputs of one run, best first. The
    /// network's input was `fit`. The outputs are the bytes of the quantized values, in the order in
    /// which [`Decoder::new`] was given their descriptions, as many as their shapes say.
    pub fn decode(&self, outputs: &[Vec<u8>], fit: &Fit, min_score: f32) -> Vec<Detection> {
        let mut candidates = Vec::new();
        for (level, tables) in &self.levels {
            self.decode_level((level, tables), outputs, fit, min_score, &mut candidates);
        }
        suppress(candidates, self.layout.max_overlap)
    }

    fn decode_level(
        &self,
        (level, tables): (&Level, &Tables),
        outputs: &[Vec<u8>],
        fit: &Fit,
        min_score: f32,
        candidates: &mut Vec<Detection>,
    ) {
        let (boxes, scores) = (&outputs[level.boxes.output], &outputs[level.scores.output]);
        let objectness = tables.objectness.as_ref().zip(level.objectness);
        let is_softmax = self.layout.scores.activation == Activation::Softmax;
        let background = usize::from(self.layout.scores.background);
        let (score_channels, box_channels) = (self.layout.score_channels(), self.layout.box_channels());
        for point in 0..level.columns * level.rows * level.anchors.len() {
            let at = level.scores.start + point * level.scores.step;
            let values = &scores[at..at + score_channels];
            // The first of the largest, so that every machine gives the same label.
            let (label, mut score) = values[background..]
                .iter()
                .map(|&value| tables.scores.of(value))
                .enumerate()
                .max_by(|(a, x), (b, y)| x.total_cmp(y).then(b.cmp(a)))
                .expect("there are labels");
            if is_softmax {
                score /= values.iter().map(|&value| tables.scores.of(value)).sum::<f32>();
            }
            if let Some((table, place)) = objectness {
                score *= table.of(outputs[place.output][place.start + point * place.step]);
            }
            if score.is_nan() || score < min_score || self.layout.labels[label].is_empty() {
                continue;
            }
            let at = level.boxes.start + point * level.boxes.step;
            let edges = self.edges(level, point, &boxes[at..at + box_channels], &tables.boxes);
            if let Some(rect) = fit.to_image(edges) {
                candidates.push(Detection { label, score: score.min(1.0), rect });
            }
        }
    }

    /// Left, upper, right and lower edge of a box in pixels of the input.
    fn edges(&self, level: &Level, point: usize, values: &[u8], table: &Table) -> (f32, f32, f32, f32) {
        let stride = level.stride;
        let (cell, anchor) = (point / level.anchors.len(), level.anchors[point % level.anchors.len()]);
        let offset = self.layout.boxes.cell_offset;
        let x = ((cell % level.columns) as f32 + offset) * stride;
        let y = ((cell / level.columns) as f32 + offset) * stride;
        let real = |index: usize| table.of(values[index]);
        let around = |x: f32, y: f32, width: f32, height: f32| {
            (x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0)
        };
        let from_distances = |distance: &dyn Fn(usize) -> f32| {
            let [left, top, right, bottom] = std::array::from_fn(|edge| distance(edge) * stride);
            (x - left, y - top, x + right, y + bottom)
        };
        match self.layout.boxes.encoding {
            // The table has the exponential of logarithms.
            Encoding::Distances | Encoding::LogDistances => from_distances(&real),
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

    fn bytes<const N: usize>(values: [i8; N]) -> Vec<u8> {
        values.map(|value| value as u8).to_vec()
    }

    /// The outputs with these scales.
    fn scaled<const N: usize>(outputs: [Output; N], scales: [f32; N]) -> Vec<Output> {
        outputs.into_iter().zip(scales).map(|(output, scale)| Output { scale, ..output }).collect()
    }

    #[test]
    fn distances_are_measured_from_the_centre_of_the_cell() {
        let scales = [0.1, std::f32::consts::LN_2, 0.1, 1.0];
        let outputs = scaled(plain_outputs(), scales);
        let decoder =
            |layout: &str| Decoder::new(Layout::parse(layout).unwrap(), &outputs, (32, 16)).unwrap();
        let (mut scores, mut boxes) = ([-100i8; 16], [0i8; 32]);
        // The second cell of the second row: its centre is at (12, 12).
        scores[2 * 5 + 1] = 20;
        // Logarithms of 1, 1, 2 and 0.5 strides, in steps of ln 2.
        boxes[4 * 5..4 * 6].copy_from_slice(&[0, 0, 1, -1]);
        let mut values = [bytes(scores), bytes(boxes), bytes([-100; 4]), bytes([0; 8])];
        let found = decoder(PLAIN).decode(&values, &whole(), 0.4);
        let [found] = found[..] else { panic!("{found:?}") };
        assert_eq!(found.label, 1);
        assert!((found.score - 0.8808).abs() < 1e-3, "{}", found.score);
        let expected = Rect::from_edges(4.0, 4.0, 28.0, 16.0);
        assert!(found.rect.iou(&expected) > 0.999, "{:?}", found.rect);
        assert!(decoder(PLAIN).decode(&values, &whole(), 0.9).is_empty());
        // The same as distances instead of logarithms: 2 and 1 steps of ln 2 strides of 8 pixels.
        boxes[4 * 5..4 * 6].copy_from_slice(&[1, 2, 2, 1]);
        values[1] = bytes(boxes);
        let found = decoder(&PLAIN.replace("log-distances", "distances")).decode(&values, &whole(), 0.4);
        let step = 8.0 * std::f64::consts::LN_2;
        let expected = Rect::from_edges(12.0 - step, 12.0 - 2.0 * step, 12.0 + 2.0 * step, 16.0);
        assert!(found[0].rect.iou(&expected) > 0.999, "{:?}", found[0].rect);
    }

    #[test]
    fn unsigned_values_mean_the_same() {
        let unsigned = |output: Output| Output { is_signed: false, zero_point: 128, ..output };
        let outputs = plain_outputs();
        let decode = |outputs: &[Output], flip: u8| {
            let decoder = Decoder::new(Layout::parse(PLAIN).unwrap(), outputs, (32, 16)).unwrap();
            let values = [bytes([7; 16]), bytes([3; 32]), bytes([-100; 4]), bytes([0; 8])];
            let values = values.map(|values| values.into_iter().map(|byte| byte ^ flip).collect());
            decoder.decode(&values, &whole(), 0.4)
        };
        let found = decode(&outputs, 0);
        assert!(!found.is_empty());
        assert_eq!(decode(&outputs.map(unsigned), 0x80), found);
    }

    #[test]
    fn yolox_multiplies_objectness_and_class() {
        let outputs = scaled([output("all", &[1, 10, 7])], [0.01]);
        let decoder = Decoder::new(Layout::parse(YOLOX).unwrap(), &outputs, (32, 16)).unwrap();
        let mut values = [0i8; 70];
        // The second point of stride 16: centre (16 + 0.5 x 16, 0.25 x 16), one stride wide and high.
        values[63..70].copy_from_slice(&[50, 25, 0, 0, 80, 70, 20]);
        let found = decoder.decode(&[bytes(values)], &whole(), 0.3);
        let [found] = found[..] else { panic!("{found:?}") };
        assert_eq!((found.label, (found.score * 100.0).round()), (0, 56.0));
        assert!(found.rect.iou(&Rect::from_edges(16.0, 0.0, 32.0, 12.0)) > 0.999, "{:?}", found.rect);
    }

    #[test]
    fn distributions_and_anchors_are_decoded_as_in_nanodet_and_ssd() {
        let nanodet = "version = 1\nname = 'n'\nlabels = ['person']\nmin_score = 0.4\nstrides = [16]\n\
            [boxes]\noutputs = [0]\nencoding = 'distribution'\nbins = 3\nfirst_channel = 1\n\
            [scores]\noutputs = [0]\nactivation = 'sigmoid'\n";
        let outputs = scaled([output("all", &[1, 2, 13])], [0.5]);
        let decoder = Decoder::new(Layout::parse(nanodet).unwrap(), &outputs, (32, 16)).unwrap();
        let mut values = [-100i8; 26];
        // Distances of 0.5, 0.5, 1 and 0 strides from (8, 8).
        values[..13]
            .copy_from_slice(&[100, 100, 100, -100, 100, 100, -100, -100, 100, -100, 100, -100, -100]);
        let found = decoder.decode(&[bytes(values)], &whole(), 0.4);
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
        let found = decoder.decode(&[bytes(boxes), bytes(scores)], &whole(), 0.4);
        let [found] = found[..] else { panic!("{found:?}") };
        assert!(found.rect.iou(&Rect::from_edges(0.0, 4.0, 16.0, 16.0)) > 0.999, "{:?}", found.rect);
        assert!((found.score - 0.9867).abs() < 1e-3, "{}", found.score);
    }

    #[test]
    fn endless_boxes_and_values_that_are_no_numbers_give_no_object() {
        for scale in [f32::NAN, f32::INFINITY, 1e30] {
            let outputs = scaled(plain_outputs(), [scale, scale, 0.1, 1.0]);
            let decoder = Decoder::new(Layout::parse(PLAIN).unwrap(), &outputs, (32, 16)).unwrap();
            let values = [bytes([100; 16]), bytes([127; 32]), bytes([-100; 4]), bytes([0; 8])];
            for found in decoder.decode(&values, &whole(), 0.4) {
                assert!(found.rect.area() <= 512.0 && found.score <= 1.0, "{found:?}");
            }
        }
    }
}
