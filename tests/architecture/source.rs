//! Reads Rust source as far as the rules need it: code without comments and text, comments without code, and
//! the modules that a file names.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file of the repository.
pub struct File {
    /// Path below the repository's root, with `/`.
    pub path: String,
    pub text: String,
}

impl File {
    pub fn new(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    /// The code without the unit tests at its end. Empty for a file that holds nothing but unit tests.
    pub fn code(&self) -> String {
        if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") {
            return String::new();
        }
        let code = split(&self.text).0;
        match code.find("#[cfg(test)]\nmod ") {
            Some(start) => code[..start].to_string(),
            None => code,
        }
    }

    /// All code, unit tests included.
    pub fn all_code(&self) -> String {
        split(&self.text).0
    }

    /// Line numbers and comments, each with its `//`.
    pub fn comments(&self) -> Vec<(usize, String)> {
        split(&self.text).1
    }
}

/// All files of the repository below `folder` that have one of these extensions, in the order of their paths.
pub fn files(root: &Path, folder: &str, extensions: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| extensions.iter().any(|wanted| end == *wanted)) {
                found.push(path);
            }
        }
    }
    found.sort();
    let file = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        File { path: path.strip_prefix(root).unwrap().to_str().unwrap().into(), text }
    };
    found.into_iter().map(file).collect()
}

/// Code with comments and text literals blanked out, and the comments with their line numbers.
fn split(text: &str) -> (String, Vec<(usize, String)>) {
    let (mut code, mut comments) = (String::with_capacity(text.len()), Vec::new());
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            comments.push((line, rest[..end].to_string()));
            end
        } else if first == '"' {
            string_end(rest)
        } else if let Some(hashes) = raw_string(rest).filter(|_| !code.ends_with(is_word)) {
            let close = format!("\"{}", "#".repeat(hashes));
            let start = hashes + 2;
            rest[start..].find(&close).map_or(rest.len(), |end| start + end + close.len())
        } else if first == '\'' {
            // A character, not a lifetime.
            match rest.char_indices().nth(2) {
                _ if rest.starts_with("'\\") => rest[2..].find('\'').map_or(1, |end| end + 3),
                Some((at, '\'')) => at + 1,
                _ => 1,
            }
        } else {
            code.push(first);
            line += usize::from(first == '\n');
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let skipped = &rest[..length];
        line += skipped.matches('\n').count();
        code.extend(skipped.chars().filter(|c| *c == '\n'));
        rest = &rest[length..];
    }
    (code, comments)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The number of `#` of a raw string that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let behind = text.strip_prefix('r')?;
    let hashes = behind.len() - behind.trim_start_matches('#').len();
    behind[hashes..].starts_with('"').then_some(hashes)
}

fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The first segment behind `crate::` of every path in the code of `src/`, paths through `super` included:
/// the rooms that the file depends on, its own among them.
pub fn rooms(path: &str, code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if !code[..at].ends_with(is_word) {
            rooms.extend(heads(&code[at + "crate::".len()..]));
        }
    }
    let module = module_of(path);
    for (at, _) in code.match_indices("super::") {
        // Only the first of a chain, which is then followed to its end.
        if code[..at].ends_with("super::") || code[..at].ends_with(is_word) {
            continue;
        }
        let mut behind = &code[at..];
        let mut depth = module.len();
        while let Some(next) = behind.strip_prefix("super::") {
            (behind, depth) = (next, depth.saturating_sub(1));
        }
        match module.first() {
            Some(room) if depth > 0 => rooms.push(room.clone()),
            _ => rooms.extend(heads(behind)),
        }
    }
    rooms
}

/// The module that a file of `src/` is.
fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|part| *part != "main").map(Into::into).collect()
}

/// The first segments of a path or of a group of paths in braces.
fn heads(text: &str) -> Vec<String> {
    let text = text.trim_start();
    let Some(group) = text.strip_prefix('{') else {
        return vec![text.chars().take_while(|c| is_word(*c)).collect()];
    };
    let mut depth = 0;
    let mut heads = vec![String::new()];
    let mut is_head = true;
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(String::new());
                is_head = true;
            }
            _ if depth == 0 && is_head && is_word(c) => heads.last_mut().unwrap().push(c),
            _ if c.is_whitespace() => {}
            _ => is_head = false,
        }
    }
    heads.retain(|head| !head.is_empty() && head != "self");
    heads
}

/// Whether the code uses this crate or path: imports it, or names something below it, or calls it.
pub fn names(code: &str, path: &str) -> bool {
    let is_crate = !path.contains("::");
    code.match_indices(path).any(|(at, _)| {
        let (before, behind) = (&code[..at], &code[at + path.len()..]);
        let is_whole = !before.ends_with(is_word) && !behind.starts_with(is_word);
        let is_root = !is_crate || !before.ends_with("::");
        let is_used =
            !is_crate || path.ends_with('!') || behind.starts_with("::") || before.ends_with("use ");
        is_whole && is_root && is_used
    })
}
