//! The words of a line: apart by spaces; quotes hold some together.

/// What is left of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub(super) const fn new(line: &'a str) -> Self {
        Self { rest: line }
    }

    /// The next word, if there is one. One that begins with a quote ends at the next quote.
    pub(super) fn word(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        if rest.is_empty() {
            return None;
        }
        let (word, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        self.rest = behind;
        Some(word)
    }

    /// All that is left, as it stands but for the space before it.
    pub(super) fn text(&mut self) -> &'a str {
        std::mem::take(&mut self.rest).trim_start()
    }

    /// Nothing is left.
    pub(super) fn is_over(&self) -> bool {
        self.rest.trim_start().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_words_together() {
        let mut words = Words::new("  create \"Bird watchers\" ann  bob ");
        let all: Vec<&str> = std::iter::from_fn(|| words.word()).collect();
        assert_eq!(all, ["create", "Bird watchers", "ann", "bob"]);
        assert!(words.is_over());
        let mut words = Words::new("7  a \"text\"  as it stands ");
        assert_eq!(words.word(), Some("7"));
        assert_eq!(words.text(), "a \"text\"  as it stands ");
        assert_eq!((words.word(), Words::new("\"open").word()), (None, Some("open")));
    }
}
