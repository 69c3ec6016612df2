//! Flags over environment over file over default, each value with where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value;

use super::table::{self, Kind, SETTINGS, Setting};
use super::{Flags, Problem};

/// The prefix of settings in the environment.
pub const ENVIRONMENT_PREFIX: &str = "TIDINGS_AGENT__";
/// A settings file; larger ones are a mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Which layer a value came from; a later one beats an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Default,
    File(PathBuf),
    /// The variable's name.
    Environment(String),
    Flag(&'static str),
    /// `--dev`, where no flag says otherwise.
    Dev,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Environment(name) => f.write_str(name),
            Source::Flag(flag) => f.write_str(flag),
            Source::Dev => f.write_str("--dev"),
        }
    }
}

/// The value that won for each key, and its source.
#[derive(Clone, Default)]
pub struct Layers {
    values: BTreeMap<&'static str, (Value, Source)>,
    pub(super) is_dev: bool,
    pub(super) file: Option<PathBuf>,
    pub(super) data_dir_default: Option<PathBuf>,
    pub(super) host_name: String,
}

impl Layers {
    pub(super) fn read(flags: Flags, environment: impl IntoIterator<Item = (String, String)>) -> Result<Layers, Problem> {
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        let mut layers = Layers { is_dev: flags.is_dev, file: flags.file.clone(), ..Layers::default() };
        layers.data_dir_default = super::data_dir_default(|name| environment.get(name).cloned(), is_root());
        layers.host_name = host_name();
        for setting in SETTINGS.iter().filter(|setting| !setting.default.is_empty()) {
            let default = setting.default.parse::<Value>().expect("a default of the table is TOML; a test reads them all");
            layers.values.insert(setting.key, (default, Source::Default));
        }
        if let Some(path) = &flags.file {
            layers.put_file(path)?;
        }
        layers.put_environment(&environment)?;
        if flags.is_dev {
            layers.put_dev();
        }
        layers.put_flags(&flags)?;
        Ok(layers)
    }

    pub(super) fn value(&self, key: &str) -> Option<&(Value, Source)> {
        self.values.get(key)
    }

    /// Each setting with its value and source, in the order of the table; secrets are left out.
    pub fn shown(&self) -> impl Iterator<Item = (&'static str, Option<String>, String)> {
        SETTINGS.iter().map(|setting| match self.values.get(setting.key) {
            Some((Value::String(text), source)) if setting.key == "gossip.encrypt" && !text.starts_with('@') => {
                (setting.key, Some("\"(a key)\"".to_owned()), source.to_string())
            }
            Some((Value::Array(tokens), source)) if setting.kind == Kind::Tokens => {
                let name = |token: &Value| token.get("name").and_then(Value::as_str).unwrap_or("(no name)").to_owned();
                let names: Vec<String> = tokens.iter().map(name).collect();
                (setting.key, Some(format!("({}: {})", tokens.len(), names.join(", "))), source.to_string())
            }
            Some((value, source)) => (setting.key, Some(value.to_string()), source.to_string()),
            None => (setting.key, None, Source::Default.to_string()),
        })
    }

    fn put_file(&mut self, path: &Path) -> Result<(), Problem> {
        let cannot = |why: String| Problem::new(format!("the settings file {} cannot be read: {why}", path.display()));
        let size = std::fs::metadata(path).map_err(|e| cannot(e.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(cannot(format!("it has {size} bytes, at most {FILE_BYTES_MAX} make sense")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| cannot(e.to_string()))?;
        let file: toml::Table = text.parse().map_err(|e: toml::de::Error| cannot(e.to_string().trim_end().to_owned()))?;
        for (section, inside) in file {
            if !table::SECTIONS.iter().any(|(name, _)| *name == section) {
                return Err(unknown(&section, &format!("in {}", path.display())));
            }
            let Value::Table(inside) = inside else {
                return Err(Problem::new(format!("{section} in {} is a section: write [{section}] above its settings", path.display())));
            };
            for (name, value) in inside {
                let key = format!("{section}.{name}");
                let setting = table::find(&key).ok_or_else(|| unknown(&key, &format!("in {}", path.display())))?;
                fits(setting, &value, &format!("in {}", path.display()))?;
                self.values.insert(setting.key, (value, Source::File(path.to_owned())));
            }
        }
        Ok(())
    }

    fn put_environment(&mut self, environment: &BTreeMap<String, String>) -> Result<(), Problem> {
        for (name, text) in environment {
            let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            let key = path.to_ascii_lowercase().replacen("__", ".", 1);
            let setting = table::find(&key).ok_or_else(|| unknown_variable(name, &key))?;
            let value = from_text(setting, text, &format!("in the environment ({name})"))?;
            self.values.insert(setting.key, (value, Source::Environment(name.clone())));
        }
        Ok(())
    }

    /// One node, in memory, on loopback: what a file says of addresses and directories does not count.
    fn put_dev(&mut self) {
        let own = |value: &str| Value::String(value.to_owned());
        self.values.insert("gossip.listen", (own("127.0.0.1:7976"), Source::Dev));
        self.values.insert("http.listen", (Value::Array(vec![own("127.0.0.1:8500")]), Source::Dev));
        self.values.insert("dns.listen", (Value::Array(vec![own("127.0.0.1:8600")]), Source::Dev));
        for key in ["node.data_dir", "gossip.advertise", "gossip.join", "gossip.encrypt"] {
            self.values.remove(key);
        }
        self.values.insert("gossip.join", (Value::Array(Vec::new()), Source::Dev));
        self.data_dir_default = None;
    }

    /// Settings that the command line gives.
    fn put_flags(&mut self, flags: &Flags) -> Result<(), Problem> {
        // Another program's command line, translated into ours, sets what has no flag of ours as well.
        let named = |setting: &table::Setting| setting.flag.unwrap_or(setting.key);
        let mut lists: BTreeMap<&'static str, Vec<Value>> = BTreeMap::new();
        for (key, text) in &flags.values {
            let setting = table::find(key).expect("flags set keys of the table; a test sets each");
            let flag = named(setting);
            if setting.kind == Kind::List {
                let list = lists.entry(setting.key).or_default();
                // As in the environment, an empty text is no element: it leaves the list empty.
                list.extend((!text.is_empty()).then(|| Value::String(text.clone())));
                continue;
            }
            let value = from_text(setting, text, &format!("({flag})"))?;
            self.values.insert(setting.key, (value, Source::Flag(flag)));
        }
        for (key, list) in lists {
            let flag = named(table::find(key).expect("it was found above"));
            self.values.insert(key, (Value::Array(list), Source::Flag(flag)));
        }
        for (key, flag) in &flags.emptied {
            self.values.insert(key, (Value::Array(Vec::new()), Source::Flag(flag)));
        }
        Ok(())
    }
}

impl fmt::Debug for Layers {
    /// As they are shown to people: without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shown()).finish()
    }
}

/// A value as a flag or the environment has it.
fn from_text(setting: &Setting, text: &str, place: &str) -> Result<Value, Problem> {
    let wrong = || Problem::new(format!("{} {place} is {}, not {text:?}", setting.key, setting.kind.name()));
    let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
    match setting.kind {
        Kind::Text | Kind::Duration => Ok(Value::String(text.to_owned())),
        Kind::Flag => text.parse().map(Value::Boolean).map_err(|_| wrong()),
        Kind::Count => text.parse().map(Value::Integer).map_err(|_| wrong()),
        Kind::List => Ok(Value::Array(parts().map(|part| Value::String(part.to_owned())).collect())),
        Kind::Map => {
            let pair = |part: &str| part.split_once('=').map(|(name, value)| (name.to_owned(), Value::String(value.to_owned())));
            parts().map(pair).collect::<Option<toml::Table>>().map(Value::Table).ok_or_else(wrong)
        }
        // Neither a command line nor an environment is a place for secrets.
        Kind::Tokens => Err(Problem::new(format!("{} stands in the settings file only, as [[access.tokens]]", setting.key))),
    }
}

fn fits(setting: &Setting, value: &Value, place: &str) -> Result<(), Problem> {
    let is_right = match setting.kind {
        Kind::Text | Kind::Duration => value.is_str(),
        Kind::Flag => value.is_bool(),
        Kind::Count => value.is_integer(),
        Kind::List => value.as_array().is_some_and(|list| list.iter().all(Value::is_str)),
        Kind::Map => value.as_table().is_some_and(|map| map.values().all(Value::is_str)),
        Kind::Tokens => value.as_array().is_some_and(|list| list.iter().all(Value::is_table)),
    };
    if is_right {
        return Ok(());
    }
    if setting.kind == Kind::Tokens {
        // What stands there instead may be a secret.
        return Err(Problem::new(format!("{} {place} must be {}", setting.key, setting.kind.name())));
    }
    Err(Problem::new(format!("{} {place} must be {}, not {value}", setting.key, setting.kind.name())))
}

/// A section or key nobody knows, with the nearest one that exists.
fn unknown(key: &str, place: &str) -> Problem {
    let problem = Problem::new(format!("there is no setting {key}, which stands {place}"));
    let (_, name) = key.rsplit_once('.').unwrap_or(("", key));
    let elsewhere = SETTINGS.iter().find(|setting| setting.key.split('.').next_back() == Some(name));
    let sections = table::SECTIONS.iter().map(|(section, _)| *section);
    let near = elsewhere.map(|setting| setting.key).or_else(|| {
        if key.contains('.') { nearest(key, SETTINGS.iter().map(|setting| setting.key)) } else { nearest(key, sections.clone()) }
    });
    match near {
        Some(near) => problem.hint(format!("Did you mean {near}? `tidings config example` prints all of them.")),
        None => problem.hint("`tidings config example` prints all there are."),
    }
}

fn unknown_variable(name: &str, key: &str) -> Problem {
    let problem = Problem::new(format!("the environment holds {name}, which is no setting"));
    match nearest(key, SETTINGS.iter().map(|setting| setting.key)) {
        Some(near) => problem.hint(format!("Did you mean {}?", variable(near))),
        None => problem.hint("`tidings config example` prints all settings; [section] and key become TIDINGS_AGENT__SECTION__KEY."),
    }
}

/// The variable that sets a key.
pub fn variable(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// The name that is most like `wrong`, if any is like it at all.
pub fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LIKENESS_MIN: f64 = 0.6;
    let likeness = |name: &'a str| (strsim::normalized_damerau_levenshtein(wrong, name), name);
    names.map(likeness).filter(|(like, _)| *like >= LIKENESS_MIN).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

fn is_root() -> bool {
    // SAFETY: geteuid reads a number of the process and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// The host's name; empty where the system does not tell.
fn host_name() -> String {
    let mut bytes = [0_u8; 256];
    // SAFETY: the buffer is ours and its length is told; the last byte stays zero, so a cut name still ends.
    let result = unsafe { libc::gethostname(bytes.as_mut_ptr().cast(), bytes.len() - 1) };
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    if result == 0 { String::from_utf8_lossy(&bytes[..end]).into_owned() } else { String::new() }
}
