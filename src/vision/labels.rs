//! The names of the classes: one a line, in the order of the map's channels.

use crate::error::{Error, ErrorKind};

/// Class names by index.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels(Vec<String>);

impl Labels {
    /// Reads one label a line; `place` names the file in errors.
    ///
    /// Errors ([`ErrorKind::Input`]): bytes that are not UTF-8, an empty line in between, or a number of labels that is not
    /// that of the model's classes.
    pub fn parse(text: &[u8], place: &str, classes: usize) -> Result<Labels, Error> {
        let refuse = |why: String| Error::new(ErrorKind::Input, format!("labels {place}: {why}"));
        let text = std::str::from_utf8(text)
            .map_err(|e| refuse(format!("byte {} is not UTF-8", e.valid_up_to())))?;
        let labels: Vec<String> = text.lines().map(|line| line.trim().to_string()).collect();
        if let Some(line) = labels.iter().position(String::is_empty) {
            return Err(refuse(format!("line {} is empty", line + 1)));
        }
        if labels.len() != classes {
            let found = labels.len();
            return Err(refuse(format!("{found} labels for a model of {classes} classes")));
        }
        Ok(Labels(labels))
    }

    /// How many classes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The name of class `index`.
    pub fn get(&self, index: usize) -> &str {
        &self.0[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &[u8], classes: usize) -> String {
        Labels::parse(text, "l.txt", classes).unwrap_err().to_string()
    }

    #[test]
    fn labels_are_lines_in_order() {
        let labels = Labels::parse(b"cat\r\n dog\n", "l.txt", 2).unwrap();
        assert_eq!((labels.get(0), labels.get(1)), ("cat", "dog"));
    }

    #[test]
    fn labels_that_do_not_fit_are_refused_by_name() {
        assert_eq!(refusal(b"cat\n", 2), "labels l.txt: 1 labels for a model of 2 classes");
        assert_eq!(refusal(b"cat\n\ndog\n", 3), "labels l.txt: line 2 is empty");
        assert_eq!(refusal(b"caf\xe9\n", 1), "labels l.txt: byte 3 is not UTF-8");
        assert_eq!(refusal(b"", 1), "labels l.txt: 0 labels for a model of 1 classes");
    }
}
