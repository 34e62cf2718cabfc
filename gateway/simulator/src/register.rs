//! One value of the server that devices set by asking: what is known of it from the questions and
//! the times of their answers alone.

/// One question.
#[derive(Debug, Clone)]
struct Asked<T> {
    value: T,
    at: u64,
    /// When it was answered; `None`: it may come into force at any time, or never.
    done: Option<u64>,
    /// It never was and never will be in force.
    refused: bool,
}

/// See the module's comment.
#[derive(Debug, Clone)]
pub(crate) struct Register<T> {
    asked: Vec<Asked<T>>,
}

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self { asked: Vec::new() }
    }
}

impl<T: Copy + PartialEq> Register<T> {
    /// Somebody asks for a value; gives the question's name.
    pub(crate) fn ask(&mut self, value: T, at: u64) -> usize {
        self.asked.push(Asked { value, at, done: None, refused: false });
        self.asked.len() - 1
    }

    /// It was answered: the value was in force at some time since it was asked for.
    pub(crate) fn done(&mut self, name: usize, at: u64) {
        if let Some(asked) = self.asked.get_mut(name) {
            asked.done = Some(at);
        }
    }

    /// It was refused: it never was and never will be in force.
    pub(crate) fn refused(&mut self, name: usize) {
        // What follows is told apart by place, so the place stays.
        if let Some(asked) = self.asked.get_mut(name) {
            asked.refused = true;
        }
    }

    fn open(&self) -> impl Iterator<Item = &Asked<T>> {
        self.asked.iter().filter(|asked| !asked.refused)
    }

    /// Whether anybody ever asked for this value.
    pub(crate) fn was_asked(&self, value: T) -> bool {
        self.open().any(|asked| asked.value == value)
    }

    /// The value in force, and since when, if the answers leave only one.
    pub(crate) fn certain(&self) -> Option<(T, u64)> {
        let last = self.open().filter(|asked| asked.done.is_some()).max_by_key(|a| a.at)?;
        let before = |asked: &Asked<T>| {
            let same = asked.value == last.value;
            same || asked.done.is_some_and(|done| done < last.at)
        };
        let certain = self.open().all(before);
        certain.then_some((last.value, last.done?))
    }

    /// Whether a value may be in force now.
    pub(crate) fn may_be(&self, value: T, initial: T) -> bool {
        match self.certain() {
            Some((certain, _)) => certain == value,
            // As long as no question was answered it is what it was.
            None => value == initial || self.was_asked(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_leave_open() {
        let mut register = Register::default();
        assert!(register.may_be(0, 0) && !register.may_be(1, 0));
        let first = register.ask(1, 10);
        assert!(register.may_be(0, 0) && register.may_be(1, 0));
        register.done(first, 20);
        assert_eq!(register.certain(), Some((1, 20)));
        let second = register.ask(2, 30);
        assert_eq!(register.certain(), None);
        register.done(second, 40);
        assert!(!register.may_be(1, 0) && register.may_be(2, 0));
    }

    #[test]
    fn two_at_a_time_are_in_doubt() {
        let mut register = Register::default();
        let (first, second) = (register.ask(1, 10), register.ask(2, 15));
        register.done(second, 20);
        register.done(first, 25);
        assert_eq!(register.certain(), None);
    }
}
