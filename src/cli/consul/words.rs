//! Flags as Go's `flag` package reads them: `-name value`, `-name=value`, one dash or two; a flag that is true or false takes its value
//! behind `=` only. `--` ends them, and so does the first word that is none, except that what follows it may be flags again.

use super::{Exit, Failure};

/// A command line, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// In their order; one may come several times.
    flags: Vec<(String, String)>,
    pub others: Vec<String>,
}

impl Words {
    /// `switches` are the flags that are true or false.
    ///
    /// # Errors
    /// A flag that needs a value has none.
    pub fn read(words: &[&str], switches: &[&str]) -> Result<Self, Failure> {
        let mut read = Self::default();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
                read.others.push(word.to_owned());
                continue;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            if flag.is_empty() {
                read.others.extend(words.by_ref().map(str::to_owned));
            } else if let Some((name, value)) = flag.split_once('=') {
                read.flags.push((name.to_owned(), value.to_owned()));
            } else if switches.contains(&flag) {
                read.flags.push((flag.to_owned(), "true".to_owned()));
            } else {
                let missing = || Failure::new(Exit::Usage, format!("flag needs an argument: -{flag}"));
                read.flags.push((flag.to_owned(), words.next().ok_or_else(missing)?.to_owned()));
            }
        }
        Ok(read)
    }

    /// The last value of a flag.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    pub fn all<'w>(&'w self, name: &str) -> impl Iterator<Item = &'w str> {
        self.flags.iter().filter(move |(flag, _)| flag == name).map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.one(name).is_some_and(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }

    /// Flags by name and value, in their order.
    pub fn flags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.flags.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_in_all_of_gos_forms() {
        let line = "-dev --server=false -node n1 -join=a -join b:1 members -x=y=z -- -not a-flag";
        let words: Vec<&str> = line.split(' ').collect();
        let read = Words::read(&words, &["dev", "server"]).unwrap();
        assert!(read.is_on("dev") && !read.is_on("server") && !read.is_on("ui"));
        assert_eq!((read.one("node"), read.one("x")), (Some("n1"), Some("y=z")));
        assert_eq!(read.all("join").collect::<Vec<_>>(), ["a", "b:1"]);
        assert_eq!(read.others, ["members", "-not", "a-flag"]);
        assert!(Words::read(&["-node"], &[]).unwrap_err().message.contains("-node"));
    }
}
