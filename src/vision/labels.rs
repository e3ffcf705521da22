//! The names of the model's classes: a text file with one label per line, in the order of the output map's
//! channels.

use crate::error::{Error, ErrorKind};

/// Class names by index.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels(Vec<String>);

impl Labels {
    /// Parses one label per line, for a model of `classes` classes. `source` names the file in errors.
    ///
    /// Errors ([`ErrorKind::Input`]): the text is not UTF-8, a line is empty, or the number of labels differs
    /// from the number of classes.
    pub fn parse(text: &[u8], source: &str, classes: usize) -> Result<Labels, Error> {
        let error = |reason: String| Error::new(ErrorKind::Input, format!("labels {source}: {reason}"));
        let text =
            std::str::from_utf8(text).map_err(|e| error(format!("byte {} is not UTF-8", e.valid_up_to())))?;
        let labels: Vec<String> = text.lines().map(|line| line.trim().to_string()).collect();
        if let Some(line) = labels.iter().position(String::is_empty) {
            return Err(error(format!("line {} is empty", line + 1)));
        }
        if labels.len() != classes {
            let found = labels.len();
            return Err(error(format!("{found} labels for a model of {classes} classes")));
        }
        Ok(Labels(labels))
    }

    /// The number of classes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The name of class `index`. Panics if there is no such class.
    pub fn get(&self, index: usize) -> &str {
        &self.0[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_error(text: &[u8], classes: usize) -> String {
        Labels::parse(text, "l.txt", classes).unwrap_err().to_string()
    }

    #[test]
    fn labels_are_lines_in_order() {
        let labels = Labels::parse(b"cat\r\n dog\n", "l.txt", 2).unwrap();
        assert_eq!((labels.get(0), labels.get(1)), ("cat", "dog"));
    }

    #[test]
    fn errors_name_the_file_and_the_reason() {
        assert_eq!(parse_error(b"cat\n", 2), "labels l.txt: 1 labels for a model of 2 classes");
        assert_eq!(parse_error(b"cat\n\ndog\n", 3), "labels l.txt: line 2 is empty");
        assert_eq!(parse_error(b"caf\xe9\n", 1), "labels l.txt: byte 3 is not UTF-8");
        assert_eq!(parse_error(b"", 1), "labels l.txt: 0 labels for a model of 1 classes");
    }
}
