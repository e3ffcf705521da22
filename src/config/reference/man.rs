//! Writes the reference as a man page, camfire.toml(5).

use super::{Block, Entry, Text, sections};

/// The page, in the man macros of roff.
pub fn man_page() -> String {
    let (introduction, sections) = sections();
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        ".TH CAMFIRE.TOML 5 \"\" \"camfire {version}\" \"File formats\"\n.SH NAME\n\
         camfire.toml \\- configuration of camfire\n.SH SYNOPSIS\n.I /etc/camfire/camfire.toml\n.br\n\
         .I /etc/camfire/conf.d/*.toml\n.SH DESCRIPTION\n"
    );
    push_text(&mut page, &introduction);
    for section in &sections {
        page.push_str(&format!(".SH \"SECTION [{}]\"\n", roff(section.name)));
        push_text(&mut page, &section.text);
        for group in &section.groups {
            for (index, entry) in group.entries.iter().enumerate() {
                page.push_str(if index == 0 { ".TP\n" } else { ".TQ\n" });
                page.push_str(&head(entry, section.name));
            }
            push_text(&mut page, &group.text);
        }
    }
    page.push_str(
        ".SH EXAMPLES\n.nf\n[mqtt]\nhost = \"broker.lan\"\n\n[cameras.yard]\n\
         source = \"rtsp://192.168.1.20/stream2\"\n.fi\n.SH SEE ALSO\n.BR camfire (1),\n.BR camfire\\-check (1)\n",
    );
    page
}

/// The line with a key, its values and its default.
fn head(entry: &Entry, section: &str) -> String {
    let name = &entry.path[section.len() + 1..];
    let default = entry.default.as_ref().map_or(String::new(), |default| format!("; default {default}"));
    format!("\\fB{}\\fR: {}{}\n", roff(name), roff(&entry.accepted), roff(&default))
}

fn push_text(page: &mut String, text: &Text) {
    for (index, block) in text.iter().enumerate() {
        if index > 0 {
            page.push_str(".sp\n");
        }
        match block {
            Block::Paragraph(paragraph) => page.push_str(&line(paragraph)),
            Block::Choices(choices) => {
                page.push_str(".RS\n");
                for (word, meaning) in choices {
                    page.push_str(&format!(".TP\n{}{}", line(word), line(meaning)));
                }
                page.push_str(".RE\n");
            }
            Block::Steps(steps) => {
                page.push_str(".RS\n");
                for (index, step) in steps.iter().enumerate() {
                    page.push_str(&format!(".IP {}. 4\n{}", index + 1, line(step)));
                }
                page.push_str(".RE\n");
            }
        }
    }
}

/// A line of text. A dot or an apostrophe in front would make it a request.
fn line(text: &str) -> String {
    let guard = if text.starts_with(['.', '\'']) { "\\&" } else { "" };
    format!("{guard}{}\n", roff(&text.replace('`', "")))
}

fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq")
}
