//! Reads the explanations in `config/camfire.toml`, which is written for people: comments, sections, keys.
//!
//! A comment explains the keys or the section directly below it. Keys without a comment of their own belong
//! to the comment above the previous key or, behind a section's head, to that of the section. An example is
//! a line that starts with `#` and no space.

/// The file that ships with camfire.
pub(super) const MANUAL: &str = include_str!("../../../config/camfire.toml");

/// A part of an explanation.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Block {
    Paragraph(String),
    /// What can be chosen, and what it means.
    Choices(Vec<(String, String)>),
    /// Numbered steps.
    Steps(Vec<String>),
}

/// An explanation. Empty if there is none.
pub(super) type Text = Vec<Block>;

/// Keys that share an explanation.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) text: Text,
    /// Name and value of each, as written.
    pub(super) keys: Vec<(String, String)>,
}

/// A section of the manual.
#[derive(Debug)]
pub(super) struct Section {
    /// The name in its head, such as `cameras.yard`.
    pub(super) name: String,
    pub(super) text: Text,
    pub(super) groups: Vec<Group>,
}

/// Returns the introduction and the sections of a manual.
pub(super) fn parse(manual: &str) -> (Text, Vec<Section>) {
    let mut introduction = Text::new();
    let mut sections: Vec<Section> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in manual.lines() {
        let example = line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' '));
        let setting = example.unwrap_or(line);
        if example.is_none() && line.starts_with('#') {
            comment.push(line.trim_start_matches('#').strip_prefix(' ').unwrap_or_default());
        } else if let Some(name) = setting.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let text = blocks(&std::mem::take(&mut comment));
            sections.push(Section { name: name.to_string(), text, groups: Vec::new() });
        } else if let Some((key, value)) = setting.split_once(" = ")
            && let Some(section) = sections.last_mut()
        {
            let text = blocks(&std::mem::take(&mut comment));
            if !text.is_empty() || section.groups.is_empty() {
                section.groups.push(Group { text, keys: Vec::new() });
            }
            let group = section.groups.last_mut().expect("one was added if there was none");
            group.keys.push((key.to_string(), value.to_string()));
        } else {
            let text = blocks(&std::mem::take(&mut comment));
            if sections.is_empty() {
                introduction.extend(text);
            }
        }
    }
    (introduction, sections)
}

/// Converts the lines of a comment. Indented lines are choices, or steps if they begin with a number; what
/// is indented further continues them.
fn blocks(lines: &[&str]) -> Text {
    let mut text = Text::new();
    let mut is_new = true;
    for line in lines {
        let content = line.trim();
        let indent = line.len() - line.trim_start().len();
        if content.is_empty() {
            is_new = true;
            continue;
        }
        match (indent, text.last_mut()) {
            (0, Some(Block::Paragraph(paragraph))) if !is_new => join(paragraph, content),
            (0, _) => text.push(Block::Paragraph(content.to_string())),
            (3.., Some(Block::Choices(choices))) if !is_new => {
                join(&mut choices.last_mut().expect("it was made with one").1, content);
            }
            (3.., Some(Block::Steps(steps))) if !is_new => {
                join(steps.last_mut().expect("it was made with one"), content);
            }
            (_, last) => match (step(content), last) {
                (Some(step), Some(Block::Steps(steps))) if !is_new => steps.push(step.to_string()),
                (Some(step), _) => text.push(Block::Steps(vec![step.to_string()])),
                (None, Some(Block::Choices(choices))) if !is_new => choices.push(choice(content)),
                (None, _) => text.push(Block::Choices(vec![choice(content)])),
            },
        }
        is_new = false;
    }
    text
}

fn join(text: &mut String, more: &str) {
    text.push(' ');
    text.push_str(more);
}

fn step(content: &str) -> Option<&str> {
    let (number, step) = content.split_once(". ")?;
    number.parse::<u32>().is_ok().then_some(step)
}

/// Splits a word from its meaning, which is at least two spaces away.
fn choice(content: &str) -> (String, String) {
    let (word, meaning) = content.split_once("  ").unwrap_or((content, ""));
    (word.to_string(), meaning.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "# Introduction,
# continued.
#
# Steps:
#   1. one
#   2. two
#      more

# Not about a key.

# About a.
[a]

# About x.
#   \"p\"   first
#          more
#   \"q\"   second
x = 1

# About y and z.
y = \"\"
z = []
#
#[b.c]
#v = 2
";

    fn paragraph(text: &str) -> Text {
        vec![Block::Paragraph(text.to_string())]
    }

    #[test]
    fn comments_belong_to_what_is_below_them() {
        let (introduction, sections) = parse(EXAMPLE);
        let steps = vec!["one".to_string(), "two more".to_string()];
        let paragraphs = ["Introduction, continued.", "Steps:"].map(|text| paragraph(text).remove(0));
        assert_eq!(introduction[..2], paragraphs);
        assert_eq!(introduction[2], Block::Steps(steps));
        let [a, b] = &sections[..] else { panic!("{sections:?}") };
        assert_eq!((a.name.as_str(), &a.text), ("a", &paragraph("About a.")));
        let choices = [("\"p\"", "first more"), ("\"q\"", "second")];
        let choices = choices.map(|(word, meaning)| (word.to_string(), meaning.to_string()));
        assert_eq!(a.groups[0].text[1], Block::Choices(choices.to_vec()));
        let keys: Vec<&str> = a.groups[1].keys.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!((keys, &a.groups[1].text), (vec!["y", "z"], &paragraph("About y and z.")));
        assert_eq!((b.name.as_str(), &b.groups[0].text), ("b.c", &Text::new()));
        assert_eq!(b.groups[0].keys, [("v".to_string(), "2".to_string())]);
    }
}
