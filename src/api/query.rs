//! What a reader wants to see: the parameters that all reads of instances share.

use super::encode::With;
use super::places::Asked;
use super::refuse::No;
use super::request::{Parameters, wrong};
use super::state::Api;
use crate::model::instance::Health;
use crate::view::{Body as Kept, Filter, HealthFilter, Namespaces};

/// Values of one filter parameter.
const FILTERS_MAX: usize = 64;

/// Parameters that every read of instances knows.
pub const FILTERS: [&str; 10] = ["namespace", "dc", "failover", "max_age", "tag", "metadata", "zone", "node", "health", "ext"];

/// What a reader wants to see and how.
#[derive(Debug, Clone)]
pub struct Query {
    pub asked: Asked,
    pub namespaces: Namespaces,
    pub filter: Filter,
    pub with: With,
    /// From whom the nearest come first; otherwise entries keep their order.
    pub near: Option<String>,
}

impl Query {
    /// # Errors
    /// A parameter is wrong, or names a datacenter that nobody knows.
    pub fn of(api: &Api, parameters: &Parameters) -> Result<Self, No> {
        let asked = Asked::of(api, parameters)?;
        let texts = |name: &str| -> Result<Vec<String>, No> {
            let texts: Vec<String> = parameters.all(name).map(str::to_owned).collect();
            if texts.len() > FILTERS_MAX { Err(wrong(name, format!("at most {FILTERS_MAX} of them"))) } else { Ok(texts) }
        };
        let pair = |text: String| -> Result<(String, String), No> {
            let (key, value) =
                text.split_once('=').ok_or_else(|| wrong("metadata", format!("{text:?} is no key=value")).allowed("key=value"))?;
            Ok((key.to_owned(), value.to_owned()))
        };
        let health = read_health(parameters.one("health")?)?;
        let filter = Filter {
            tags: texts("tag")?,
            metadata: texts("metadata")?.into_iter().map(pair).collect::<Result<_, _>>()?,
            zone: parameters.one("zone")?.map(str::to_owned),
            node: parameters.one("node")?.map(str::to_owned),
            health,
        };
        let with = With { why: filter.health != HealthFilter::Available, ext: parameters.flag("ext")? };
        let near = parameters.one("near")?.map(str::to_owned);
        if near.is_some() && parameters.one("after")?.is_some() {
            return Err(wrong("after", "what is ordered by distance is one page: limit says how many of the nearest"));
        }
        Ok(Self { asked, namespaces: parameters.namespaces()?, filter, with, near })
    }

    /// Which of the answers kept beside a service this asks for.
    pub fn kept(&self) -> Option<Kept> {
        let is_plain = |filter: &Filter| *filter == Filter { health: filter.health.clone(), ..Filter::default() };
        match self.filter.health {
            _ if self.near.is_some() || self.with.ext || !is_plain(&self.filter) => None,
            HealthFilter::Available => Some(Kept::List),
            HealthFilter::Any => Some(Kept::Any),
            HealthFilter::Is(_) => None,
        }
    }
}

fn read_health(text: Option<&str>) -> Result<HealthFilter, No> {
    match text {
        None | Some("available") => Ok(HealthFilter::Available),
        Some("any") => Ok(HealthFilter::Any),
        Some(words) => {
            let health = |word: &str| Health::ALL.into_iter().find(|health| health.as_str() == word);
            let wanted: Option<Vec<Health>> = words.split(',').map(health).collect();
            let allowed = "available, any, or some of passing,warning,critical,starting,unknown";
            wanted.map(HealthFilter::Is).ok_or_else(|| wrong("health", format!("{words:?} is no health")).allowed(allowed))
        }
    }
}

/// The namespaces as answers name them.
pub fn shown(namespaces: &Namespaces) -> &str {
    match namespaces {
        Namespaces::One(namespace) => namespace.as_str(),
        Namespaces::All => "*",
    }
}
