//! Members, this agent, joining and leaving, gossip keys; what supervisors and scrapers ask.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, Uri};
use serde_json::json;

use super::answer::{answer, await_view, not_modified};
use super::encode;
use super::events::EVENTS_MAX;
use super::json::At;
use super::refuse::No;
use super::request::{self, BODY_BYTES_MAX, Names, Parameters};
use super::state::Api;
use super::writes::need;
use crate::agent::handle::wall_ms;
use crate::model::command::{Command, GossipKey, KeyId, Reply};
use crate::model::duration;
use crate::model::names::{Datacenter, NodeId};
use crate::model::node::Liveness;
use crate::schema::{self, Kind};
use crate::view::{DatacenterView, LinkState, LinkView, MemberState, MemberView, Node, View};

/// Addresses in one join.
const JOIN_MAX: usize = 64;
/// How long the names in a join may take to resolve.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(5);
/// An engine that has not turned for so long is stuck.
const TURN_MAX: Duration = Duration::from_secs(5);

/// `GET /api/v1/members`
pub async fn members(State(api): State<Api>, uri: Uri) -> Result<Response<Body>, No> {
    let parameters = Parameters::read(&uri, &["wait", "revision"])?;
    let wait = parameters.wait()?;
    let Some(view) = await_view(&api, wait, |view| view.members_revision).await else {
        return Ok(not_modified(wait.map_or(0, |wait| wait.revision)));
    };
    let members = schema::Members {
        datacenter: api.handle.facts().datacenter.as_str().into(),
        revision: view.members_revision,
        members: view.members.iter().map(|member| show(member, &view)).collect(),
    };
    Ok(answer(view.members_revision, encode::to_bytes(&members)))
}

fn show<'v>(member: &'v MemberView, view: &View) -> schema::Member<'v> {
    schema::Member {
        node: member.name.as_str().into(),
        node_id: member.id.to_string(),
        address: member.gossip.to_string(),
        state: member.state.as_str().into(),
        since: encode::instant(member.since),
        datacenter: member.datacenter.as_str().into(),
        zone: member.zone.as_deref().map(Into::into),
        version: member.version.as_str().into(),
        http_port: member.http_port,
        dns_port: member.dns_port,
        gateway: member.is_gateway,
        instances: member.instances,
        me: member.id == view.agent.id,
        name_taken: member.is_name_taken,
        word: member.word.as_ref().map(encode::word),
    }
}

fn counts(view: &View) -> schema::cluster::MemberCounts {
    let of = |state: MemberState| u32::try_from(view.members.iter().filter(|member| member.state == state).count()).unwrap_or(u32::MAX);
    schema::cluster::MemberCounts {
        alive: of(MemberState::Alive),
        suspect: of(MemberState::Suspect),
        down: of(MemberState::Down),
        left: of(MemberState::Left),
    }
}

/// `GET /api/v1/events`
pub async fn events(State(api): State<Api>, uri: Uri) -> Result<Response<Body>, No> {
    let parameters = Parameters::read(&uri, &["limit"])?;
    let limit = parameters.number("limit", EVENTS_MAX as u64)?.map_or(EVENTS_MAX, |limit| usize::try_from(limit).unwrap_or(EVENTS_MAX));
    let revision = api.handle.view().revision;
    let events = api.events.last(limit);
    Ok(answer(revision, encode::to_bytes(&schema::Events { revision, events })))
}

/// `GET /api/v1/status`
pub async fn status(State(api): State<Api>, uri: Uri) -> Result<Response<Body>, No> {
    Parameters::read(&uri, &[])?;
    let (view, facts) = (api.handle.view(), api.handle.facts());
    let status = schema::Status {
        node: facts.node.as_str().into(),
        node_id: view.agent.id.to_string(),
        datacenter: facts.datacenter.as_str().into(),
        zone: facts.zone.as_ref().map(|zone| zone.as_str().into()),
        version: facts.version.into(),
        ready: view.agent.is_ready,
        cut_off: view.agent.is_cut_off,
        leaving: view.agent.is_leaving || api.handle.is_stopping(),
        revision: view.revision,
        services: view.service_count() as u64,
        instances: view.instance_count(),
        members: counts(&view),
        gossip: facts.advertise.to_string(),
        data_dir: facts.data_dir.as_ref().map(|dir| dir.display().to_string()),
        key: facts.key.map(|key| key.to_string()),
        started_at: encode::instant(facts.started_at_ms),
        // Whole seconds: a person reads it.
        uptime: duration::text(wall_ms().saturating_sub(facts.started_at_ms) / 1000 * 1000),
    };
    Ok(answer(view.revision, encode::to_bytes(&status)))
}

/// `GET /api/v1/datacenters`
pub async fn datacenters(State(api): State<Api>, uri: Uri) -> Result<Response<Body>, No> {
    Parameters::read(&uri, &[])?;
    let view = api.handle.view();
    let own = schema::cluster::Datacenter {
        datacenter: api.handle.facts().datacenter.as_str().into(),
        local: true,
        state: LinkState::Fresh.as_str().into(),
        age: "0s".into(),
        stale_since: None,
        rtt_ms: None,
        backlog: 0,
        gateways: view.members.iter().filter(|member| member.is_gateway && is_up(member)).map(|member| member.name.clone()).collect(),
        members: counts(&view).alive + counts(&view).suspect,
        services: view.service_count() as u64,
        instances: view.instance_count(),
        summaries: 0,
        links: Vec::new(),
    };
    let datacenters = [own].into_iter().chain(view.datacenters.iter().map(|known| datacenter(known, &view))).collect();
    Ok(answer(view.revision, encode::to_bytes(&schema::Datacenters { datacenters })))
}

fn is_up(member: &MemberView) -> bool {
    matches!(member.state, MemberState::Alive | MemberState::Suspect)
}

fn datacenter<'v>(known: &'v DatacenterView, view: &View) -> schema::cluster::Datacenter<'v> {
    let name_of = |id| view.member(id).map(|member| member.name.clone());
    let is_member = |node: &&Arc<Node>| !node.is_external && matches!(node.liveness, Liveness::Alive | Liveness::Suspect);
    let is_heard = |link: &&LinkView| link.state != LinkState::Stale;
    let ms = |us: u32| f64::from(us) / 1_000.0;
    let link = |link: &LinkView| schema::cluster::Link {
        gateway: link.gateway.to_string(),
        state: link.state.as_str().to_owned(),
        rtt_ms: link.rtt_us.map(ms),
        backlog: link.backlog,
        peers: link
            .peers
            .iter()
            .map(|(id, address)| schema::cluster::LinkPeer { node_id: id.to_string(), address: address.to_string() })
            .collect(),
    };
    schema::cluster::Datacenter {
        datacenter: known.name.as_str().into(),
        local: false,
        state: known.state.as_str().into(),
        // Whole seconds: a person reads it.
        age: duration::text(known.age_ms(wall_ms()) / 1_000 * 1_000).into(),
        stale_since: known.stale_since_ms.map(encode::instant),
        rtt_ms: known.rtt_us.map(ms),
        // Gateways that send the same wait for the same.
        backlog: known.links.iter().map(|link| link.backlog).max().unwrap_or(0),
        gateways: known
            .links
            .iter()
            .filter(is_heard)
            .map(|link| name_of(link.gateway).unwrap_or_else(|| link.gateway.to_string()))
            .collect(),
        members: u32::try_from(known.view.nodes.iter().filter(is_member).count()).unwrap_or(u32::MAX),
        services: known.view.service_count() as u64,
        instances: known.view.instance_count(),
        summaries: known.summaries.len() as u64,
        links: known.links.iter().map(link).collect(),
    }
}

/// `POST /api/v1/join`
pub async fn join(State(api): State<Api>, uri: Uri, body: Body) -> Result<Response<Body>, No> {
    Parameters::read(&uri, &[])?;
    let body = need(request::json(body, BODY_BYTES_MAX).await?)?;
    let asked = At::root(&body).object(&["addresses", "wan"])?;
    let items = asked.need("addresses")?.list(JOIN_MAX)?;
    let is_wan = asked.get("wan").map(|at| at.boolean()).transpose()?.unwrap_or_default();
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for at in &items {
        let text = at.text()?;
        let unresolved = |why: String| at.refuse(Kind::BadAddress, why).allowed("host:port of another agent's gossip");
        match tokio::time::timeout(RESOLVE_PATIENCE, tokio::net::lookup_host(text)).await {
            Ok(Ok(found)) => addresses.extend(found.take(JOIN_MAX)),
            Ok(Err(e)) => return Err(unresolved(format!("{text:?} does not resolve: {e}")).into()),
            Err(_) => return Err(unresolved(format!("{text:?} does not resolve in time")).into()),
        }
    }
    done(&api, if is_wan { Command::JoinWan(addresses) } else { Command::Join(addresses) }).await
}

/// `POST /api/v1/leave`
pub async fn leave(State(api): State<Api>, uri: Uri) -> Result<Response<Body>, No> {
    Parameters::read(&uri, &[])?;
    done(&api, Command::Leave).await
}

/// `POST /api/v1/reload`: what SIGHUP does.
pub async fn reload(State(api): State<Api>, uri: Uri) -> Result<Response<Body>, No> {
    Parameters::read(&uri, &[])?;
    let done = api.handle.reload().await?;
    let revision = api.handle.view().revision;
    let owned = |names: &[&'static str]| names.iter().map(|name| (*name).to_owned()).collect();
    let body = schema::Reloaded { revision, changed: owned(&done.changed), needs_restart: owned(&done.needs_restart) };
    Ok(answer(revision, encode::to_bytes(&body)))
}

/// `DELETE /api/v1/members/{node}`: gives up a member that is not alive, by its name or id.
pub async fn forget(State(api): State<Api>, Names(node): Names<String>, uri: Uri) -> Result<Response<Body>, No> {
    Parameters::read(&uri, &[])?;
    let view = api.handle.view();
    let by_id = node.parse::<NodeId>().ok();
    let mut found = view.members.iter().filter(|member| member.name == node || Some(member.id) == by_id);
    let member = found.next().ok_or_else(|| No::new(Kind::NotFound, format!("there is no member {node:?}")))?;
    if found.next().is_some() {
        return Err(No::new(Kind::Ambiguous, format!("several members are called {node:?}; give the id of one")));
    }
    done(&api, Command::Forget(member.id)).await
}

/// `DELETE /api/v1/datacenters/{name}`: every agent here drops what it knows of a datacenter that nobody hears.
pub async fn forget_datacenter(State(api): State<Api>, Names(name): Names<String>, uri: Uri) -> Result<Response<Body>, No> {
    Parameters::read(&uri, &[])?;
    let name = Datacenter::new(&name).map_err(|why| No::new(Kind::BadName, why.to_string()))?;
    done(&api, Command::ForgetDatacenter(name)).await
}

async fn done(api: &Api, command: Command) -> Result<Response<Body>, No> {
    api.handle.call(command).await?;
    let revision = api.handle.view().revision;
    Ok(answer(revision, encode::to_bytes(&json!({"result": "done", "revision": revision}))))
}

/// `GET /api/v1/keys`
pub async fn keys(State(api): State<Api>, uri: Uri) -> Result<Response<Body>, No> {
    Parameters::read(&uri, &[])?;
    match api.handle.call(Command::ListKeys).await? {
        Reply::Keys(ids) => {
            let keys = ids.iter().enumerate().map(|(i, id)| schema::Key { id: id.to_string(), in_use: i == 0 }).collect();
            Ok(answer(api.handle.view().revision, encode::to_bytes(&schema::Keys { keys })))
        }
        other => Err(No::new(Kind::Internal, format!("the engine answered {other:?} to a list of keys"))),
    }
}

/// `POST /api/v1/keys`: accepts a further key.
pub async fn install_key(State(api): State<Api>, uri: Uri, body: Body) -> Result<Response<Body>, No> {
    Parameters::read(&uri, &[])?;
    let body = need(request::json(body, BODY_BYTES_MAX).await?)?;
    let at = At::root(&body).object(&["key"])?.need("key")?;
    let key = read_key(at.text()?).ok_or_else(|| {
        // The text is not repeated: it is a secret, or nearly one.
        at.refuse(Kind::BadValue, "that is no key").allowed("32 bytes as `tidings keygen` prints them")
    })?;
    done(&api, Command::InstallKey(key)).await
}

/// 44 characters of base64 or 64 hexadecimal digits.
fn read_key(text: &str) -> Option<GossipKey> {
    let hexadecimal = || -> Option<Vec<u8>> {
        let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
        pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
    };
    let bytes = if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) { hexadecimal() } else { base64(text) };
    bytes.and_then(|bytes| bytes.try_into().ok()).map(GossipKey)
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| -> Option<u32> {
        Some(u32::from(match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        }))
    };
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for b in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | digit(b)?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (bits == 0).then_some(bytes)
}

/// `POST /api/v1/keys/{id}`: seals with it from now on.
pub async fn use_key(State(api): State<Api>, Names(id): Names<String>, uri: Uri) -> Result<Response<Body>, No> {
    Parameters::read(&uri, &[])?;
    done(&api, Command::UseKey(key_id(&id)?)).await
}

/// `DELETE /api/v1/keys/{id}`
pub async fn remove_key(State(api): State<Api>, Names(id): Names<String>, uri: Uri) -> Result<Response<Body>, No> {
    Parameters::read(&uri, &[])?;
    done(&api, Command::RemoveKey(key_id(&id)?)).await
}

fn key_id(text: &str) -> Result<KeyId, No> {
    let is_id = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let id = if is_id { u32::from_str_radix(text, 16).ok() } else { None };
    id.map(KeyId).ok_or_else(|| No::new(Kind::BadName, format!("{text:?} is no key id")).allowed("8 hexadecimal digits"))
}

/// `GET /healthz`: whether the engine turns.
pub async fn healthz(State(api): State<Api>) -> Result<Response<Body>, No> {
    let silence = api.handle.since_last_turn();
    if silence > TURN_MAX {
        return Err(No::new(Kind::Unavailable, format!("the engine has not turned for {} s", silence.as_secs())));
    }
    Ok(answer(api.handle.view().revision, encode::to_bytes(&json!({"status": "ok"}))))
}

/// `GET /readyz`: whether the catalog is there.
pub async fn readyz(State(api): State<Api>) -> Result<Response<Body>, No> {
    let view = api.handle.view();
    if !view.agent.is_ready {
        return Err(No::new(Kind::NotReady, "this agent is still catching up with the others"));
    }
    Ok(answer(view.revision, encode::to_bytes(&json!({"status": "ready"}))))
}

/// `GET /metrics`
pub async fn metrics(State(api): State<Api>) -> Response<Body> {
    let mut response = Response::new(Body::from(api.handle.metrics().await));
    let media = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, media);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_both_spellings_and_nothing_else_is() {
        let bytes: [u8; 32] = std::array::from_fn(|i| i as u8);
        let hexadecimal: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(read_key(&hexadecimal), Some(GossipKey(bytes)));
        assert_eq!(read_key("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), Some(GossipKey(bytes)));
        for wrong in ["", "AAEC", "zz", &hexadecimal[..62], "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=", "ä"] {
            assert_eq!(read_key(wrong), None, "{wrong}");
        }
    }
}
