//! Writes the reference as a Markdown page, `docs/configuration.md`.

use super::{Block, Entry, Section, Text, sections};

/// What the manual, being a file, does not say.
const HEAD: &str = "# Configuration reference

<!-- Generated from config/camfire.toml and src/config/raw.rs by `make configuration-reference`. Do not edit. -->

Every key of camfire's configuration. [config/camfire.toml](../config/camfire.toml) has the same explanations in a
file to copy from. [service.md](service.md#reload) states what a reload does with a changed key.
";

/// The page.
pub fn markdown() -> String {
    let (introduction, sections) = sections();
    let mut page = HEAD.to_string();
    push_text(&mut page, &introduction);
    page.push_str("\n| section | keys |\n| --- | --- |\n");
    for section in &sections {
        let link = |entry: &Entry| format!("[{}](#{})", short(section, entry), anchor(section, entry));
        let keys: Vec<String> = section.groups.iter().flat_map(|group| &group.entries).map(link).collect();
        page.push_str(&format!("| `[{}]` | {} |\n", section.name, keys.join(", ")));
    }
    for section in &sections {
        push_section(&mut page, section);
    }
    page
}

fn short<'e>(section: &Section, entry: &'e Entry) -> &'e str {
    &entry.path[section.name.len() + 1..]
}

/// The anchor of the heading that has this key, as GitHub makes it.
fn anchor(section: &Section, entry: &Entry) -> String {
    let is_in = |group: &&super::Group| group.has(&entry.path);
    let group = section.groups.iter().find(is_in).expect("the entry is of this section");
    let letters = |c: &char| c.is_alphanumeric() || "_- ".contains(*c);
    let heading: String = heading(group).chars().filter(letters).collect();
    heading.to_lowercase().replace(' ', "-")
}

fn heading(group: &super::Group) -> String {
    let names: Vec<String> = group.entries.iter().map(|entry| format!("`{}`", entry.path)).collect();
    names.join(", ")
}

fn push_section(page: &mut String, section: &Section) {
    page.push_str(&format!("\n## `[{}]`\n", section.name));
    push_text(page, &section.text);
    for group in &section.groups {
        page.push_str(&format!("\n### {}\n", heading(group)));
        push_text(page, &group.text);
        page.push_str("\n| | value | default | environment variable |\n| --- | --- | --- | --- |\n");
        for entry in &group.entries {
            let default = match &entry.default {
                Some(default) => format!("`{default}`"),
                None if entry.path.ends_with(".source") => "required".into(),
                None => "none".into(),
            };
            let variable = entry.variable.as_ref().map_or("none".into(), |name| format!("`{name}`"));
            let (name, accepted) = (short(section, entry), marked(&entry.accepted));
            page.push_str(&format!("| `{name}` | {accepted} | {default} | {variable} |\n"));
        }
        let examples: Vec<&str> = group.entries.iter().filter_map(|entry| entry.example.as_deref()).collect();
        if !examples.is_empty() {
            page.push_str(&format!(
                "\nExample: {}\n",
                examples.iter().map(|e| format!("`{e}`")).collect::<Vec<_>>().join(", ")
            ));
        }
    }
}

fn push_text(page: &mut String, text: &Text) {
    for block in text {
        page.push('\n');
        match block {
            Block::Paragraph(paragraph) => page.push_str(&format!("{}\n", marked(paragraph))),
            Block::Choices(choices) => {
                for (word, meaning) in choices {
                    page.push_str(&format!("- {}: {}\n", word_of_choice(word), marked(meaning)));
                }
            }
            Block::Steps(steps) => {
                for (index, step) in steps.iter().enumerate() {
                    page.push_str(&format!("{}. {}\n", index + 1, marked(step)));
                }
            }
        }
    }
}

/// Code, except for a plain word that is no value.
fn word_of_choice(word: &str) -> String {
    if word == "neither" { word.to_string() } else { format!("`{word}`") }
}

/// Marks names, values and paths as code and links other pages. What is in backticks stays as it is.
fn marked(text: &str) -> String {
    let mut result = String::new();
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            result.push_str(&format!("`{part}`"));
        } else {
            push_marked(&mut result, part);
        }
    }
    result
}

fn push_marked(result: &mut String, text: &str) {
    let mut rest = text;
    while !rest.is_empty() {
        let length = code_length(rest);
        if length > 0 {
            result.push_str(&format!("`{}`", &rest[..length]));
            rest = &rest[length..];
            continue;
        }
        let word = rest.find([' ', '(']).map_or(rest.len(), |at| at + 1);
        let (this, behind) = rest.split_at(word);
        let plain = this.trim_end_matches([' ', '(', '.', ',', ';', ':', ')']);
        let end = &this[plain.len()..];
        match plain.strip_prefix("docs/") {
            Some(page) if page.ends_with(".md") => result.push_str(&format!("[{page}]({page})")),
            _ if is_code(plain) => result.push_str(&format!("`{plain}`")),
            _ => result.push_str(plain),
        }
        result.push_str(end);
        rest = behind;
    }
}

/// The length of a quoted string, a list, or an assignment such as `tls = true` at the start of `text`.
fn code_length(text: &str) -> usize {
    if let Some(rest) = text.strip_prefix('"') {
        return rest.find('"').map_or(0, |end| end + 2);
    }
    if text.starts_with("[\"") || text.starts_with("[[") {
        let mut depth = 0;
        for (at, c) in text.char_indices() {
            depth += i32::from(c == '[') - i32::from(c == ']');
            if depth == 0 {
                return at + 1;
            }
        }
        return 0;
    }
    let name = text.find(|c: char| !c.is_ascii_lowercase() && c != '_' && c != '.').unwrap_or(text.len());
    match text[name..].strip_prefix(" = ") {
        Some(value) if name > 0 => {
            let value = value
                .strip_prefix('"')
                .and_then(|value| value.find('"'))
                .map_or_else(|| value.find([' ', ',', ';', ')']).unwrap_or(value.len()), |end| end + 2);
            name + 3 + text[name + 3..name + 3 + value].trim_end_matches(['.', ':']).len()
        }
        _ => 0,
    }
}

fn is_code(word: &str) -> bool {
    let is_key = word.contains('_') || word.contains("/*") || word.contains("://");
    let is_path =
        word.starts_with('/') || word.contains(".toml") || word.contains(".txt") || word.starts_with("--");
    let is_name = word.starts_with("CAMFIRE") || word.contains('<') || word.contains('=');
    is_key || is_path && word.len() > 1 || is_name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_become_code() {
        for (text, expected) in [
            ("Set base_topic, as in \"a b\".", "Set `base_topic`, as in `\"a b\"`."),
            ("with tls = true. Or [\"x\"]: yes", "with `tls = true`. Or `[\"x\"]`: yes"),
            (
                "<base_topic>/<node>/... (see docs/mqtt.md)",
                "`<base_topic>/<node>/`... (see [mqtt.md](mqtt.md))",
            ),
            ("`camfire check` of a/b", "`camfire check` of a/b"),
            ("only. everyday_head = \"off\": no", "only. `everyday_head = \"off\"`: no"),
        ] {
            assert_eq!(marked(text), expected);
        }
    }
}
