//! Answers that were fetched from another datacenter, as all agents here keep and show them.
//!
//! The gateway that fetched an answer says its parts as records of its own, beside what it says of its link, and a head above them. Readers
//! take the newest that is whole, and put it into the datacenter's view where that knows the service by its summary alone: nothing of it
//! is ever a record of the other datacenter here.

use super::fetching::UNUSED_MS;
use super::imports::{Import, author_of};
use crate::model::answer::{AnswerHead, Told, answer_key};
use crate::model::names::{NodeId, ServiceKey};
use crate::model::record::{Content, Kind};
use crate::model::summary::service_of;
use crate::model::time::Now;
use crate::view::{Entry, LinkState, entries_of};
use siphasher::sip::SipHasher13;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher as _;

/// What readers see of the answers about one datacenter.
#[derive(Debug, Default)]
pub struct Answers {
    /// Whose answers may count, and whether they can fetch anew.
    sources: Vec<Source>,
    is_news: bool,
    shown: BTreeMap<ServiceKey, Shown>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Source {
    author: NodeId,
    is_alive: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Shown {
    head: AnswerHead,
    source: NodeId,
}

impl Answers {
    pub fn is_news(&self) -> bool {
        self.is_news
    }

    /// When each was fetched, in order of service.
    pub fn fetched(&self) -> Vec<(ServiceKey, u64)> {
        self.shown.iter().map(|(service, shown)| (service.clone(), shown.head.fetched_ms)).collect()
    }
}

impl Import {
    /// What an origin says changed: it may have been an answer.
    pub(super) fn answer_moved(&mut self, origin: NodeId) {
        self.answers.is_news |= self.answers.sources.iter().any(|source| source.author == origin) && self.has_answers();
    }

    /// The summaries that readers see changed.
    pub(super) fn summaries_changed(&mut self) {
        self.answers.is_news |= self.has_answers();
    }

    fn has_answers(&self) -> bool {
        let is_said = |source: &Source| self.catalog.said(source.author, Kind::ANSWER).next().is_some();
        !self.answers.shown.is_empty() || self.answers.sources.iter().any(is_said)
    }

    /// A gateway says what it was answered about a service.
    pub fn say_answer(&mut self, now: Now, service: &ServiceKey, parts: Vec<(String, Content)>) {
        let sum = sum_of(parts.iter().map(|(_, content)| content));
        let ids: BTreeSet<&str> = parts.iter().map(|(id, _)| id.as_str()).collect();
        let former = self.answer_ids(service);
        for id in former.iter().filter(|id| !id.is_empty() && !ids.contains(id.as_str())) {
            self.catalog.unsay(now, &answer_key(service, id));
        }
        for (id, content) in &parts {
            self.catalog.say_content(now, &answer_key(service, id), content.clone());
        }
        // After them, so that nobody takes the one for whole without the others.
        self.catalog.say(now, &answer_key(service, ""), &AnswerHead { fetched_ms: now.wall_ms, sum });
    }

    /// A gateway says nothing of it any more.
    pub fn drop_answer(&mut self, now: Now, service: &ServiceKey) {
        for id in self.answer_ids(service) {
            self.catalog.unsay(now, &answer_key(service, &id));
        }
    }

    /// The services that a gateway keeps answers about.
    pub fn answered(&self) -> BTreeSet<ServiceKey> {
        let said = self.catalog.said(author_of(&self.name, self.spread.me()), Kind::ANSWER);
        said.filter_map(|content| content.key().ok()).filter_map(|key| service_of(&key.namespace, &key.name)).collect()
    }

    fn answer_ids(&self, service: &ServiceKey) -> Vec<String> {
        let said = self.catalog.said(author_of(&self.name, self.spread.me()), Kind::ANSWER);
        let keys = said.filter_map(|content| content.key().ok());
        let of_it = keys.filter(|key| *key.namespace == *service.namespace.as_str() && *key.name == *service.service.as_str());
        of_it.map(|key| key.id.as_str().to_owned()).collect()
    }

    /// Whose answers count: those of gateways that live, and for a while of those that do not, so that readers go on reading until another
    /// has fetched for them; for as long as there are any, while nobody hears the datacenter.
    pub fn settle_answerers(&mut self, gateways: impl Iterator<Item = (NodeId, bool)>) {
        let is_heard = self.state() != LinkState::Stale;
        let source = |(gateway, is_alive)| Source { author: author_of(&self.name, gateway), is_alive: is_alive || !is_heard };
        let sources: Vec<Source> = gateways.map(source).collect();
        let is_new = self.answers.sources != sources;
        self.answers.sources = sources;
        self.answers.is_news |= is_new && self.has_answers();
    }

    /// Puts answers into the view of what crosses by itself, and takes them out of it. Says whether readers see something new.
    pub fn settle_answers(&mut self, now: Now) -> bool {
        // What the catalog has not folded yet could undo it.
        if !self.answers.is_news || self.catalog.is_behind() {
            return false;
        }
        self.answers.is_news = false;
        let newest = self.newest_answers(now);
        let gone: Vec<ServiceKey> = self.answers.shown.keys().filter(|service| !newest.contains_key(*service)).cloned().collect();
        let mut is_news = !gone.is_empty();
        for service in gone {
            self.answers.shown.remove(&service);
            let uids: Vec<_> = self.catalog.editor().entries(&service).iter().map(|entry| entry.uid).collect();
            self.catalog.editor().set_service(&service, Vec::new(), &[]);
            // What crosses by itself now stays.
            uids.into_iter().for_each(|uid| self.catalog.fold_again(uid));
        }
        for (service, shown) in newest {
            let before = self.answers.shown.get(&service);
            if before == Some(&shown) {
                continue;
            }
            if before.is_none_or(|before| before.head.sum != shown.head.sum) {
                let Some(entries) = self.entries_of(&service, &shown) else { continue };
                self.catalog.editor().set_service(&service, entries, &[]);
            }
            self.answers.shown.insert(service, shown);
            is_news = true;
        }
        is_news
    }

    /// The newest answer about each service that is known by its summary.
    fn newest_answers(&self, now: Now) -> BTreeMap<ServiceKey, Shown> {
        let mut newest: BTreeMap<ServiceKey, Shown> = BTreeMap::new();
        for source in &self.answers.sources {
            for content in self.catalog.said(source.author, Kind::ANSWER) {
                let Ok(key) = content.key() else { continue };
                if !key.id.is_empty() {
                    continue;
                }
                let head = content.decode::<AnswerHead>().ok().map(|(_, head)| head);
                let (Some(service), Some(head)) = (service_of(&key.namespace, &key.name), head) else { continue };
                if !source.is_alive && now.wall_ms > head.fetched_ms + UNUSED_MS {
                    // Nobody drops it who is alive; what somebody uses was fetched by another since.
                    continue;
                }
                let is_older = newest.get(&service).is_some_and(|known| known.head.fetched_ms >= head.fetched_ms);
                if !is_older && self.is_summarized(&service) {
                    newest.insert(service, Shown { head, source: source.author });
                }
            }
        }
        newest
    }

    /// The entries of an answer, if all of its parts are here.
    fn entries_of(&self, service: &ServiceKey, shown: &Shown) -> Option<Vec<Entry>> {
        let is_part = |content: &&Content| {
            let key = content.key();
            key.is_ok_and(|key| {
                !key.id.is_empty() && *key.namespace == *service.namespace.as_str() && *key.name == *service.service.as_str()
            })
        };
        let parts: Vec<&Content> = self.catalog.said(shown.source, Kind::ANSWER).filter(is_part).collect();
        if sum_of(parts.iter().copied()) != shown.head.sum {
            return None;
        }
        let told: Option<Vec<Told<'_>>> = parts.iter().map(|content| content.decode::<Told<'_>>().ok().map(|(_, told)| told)).collect();
        entries_of(self.name.as_str(), told?).ok()
    }
}

/// A sum over the parts of an answer, in whatever order.
fn sum_of<'a>(parts: impl Iterator<Item = &'a Content>) -> u64 {
    parts.fold(0, |sum: u64, content| {
        // A fixed key: all agents here must agree, and the gateway that says it could as well say anything else.
        let mut hasher = SipHasher13::new_with_keys(0x7469_6469_6e67_7321, 0x616e_7377_6572_2073);
        hasher.write(content.as_bytes());
        sum.wrapping_add(hasher.finish())
    })
}
