//! `tidings watch`: changes of instances as they happen.

use super::Failure;
use super::connect::Connection;
use super::output::{Output, cell};
use crate::client::query;
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The services to watch; none: all of them.
    name: Vec<String>,
    #[arg(long, default_value = "default", value_name = "NAME")]
    namespace: String,
    /// Another datacenter; name the services there that are known by their summaries, so that their instances are fetched.
    #[arg(long, value_name = "NAME")]
    dc: Option<String>,
    /// Stop once everything that is there now was told.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut pairs = vec![("namespace", arguments.namespace.as_str())];
    pairs.extend(arguments.name.iter().map(|name| ("service", name.as_str())));
    pairs.extend(arguments.dc.as_deref().map(|dc| ("dc", dc)));
    let query = query(&pairs);
    arguments.connection.run(|client| async move {
        let mut events = client.events(&query);
        loop {
            let happened = events.next().await?;
            let line = json!({"event": happened.event, "data": happened.data});
            arguments.output.line(&line, || sentence(&happened.event, &happened.data))?;
            // Of named services all is told once their instances are here; who names none is told what is.
            let is_told = happened.event == "synced" && (arguments.name.is_empty() || happened.data["complete"] != false);
            if arguments.once && is_told {
                return Ok(());
            }
        }
    })
}

fn sentence(event: &str, data: &Value) -> String {
    let name = format!("{}/{}", cell(&data["service"]), cell(&data["id"]));
    match event {
        "put" => {
            format!("+ {name}  {}:{}  {}  on {}", cell(&data["address"]), cell(&data["port"]), cell(&data["health"]), cell(&data["node"]))
        }
        "remove" => format!("- {name}  {}", cell(&data["reason"])),
        "synced" if data["complete"] == false => "= that is what is here; the rest is being fetched, changes follow".into(),
        "synced" => "= that is all there is now; changes follow".into(),
        "resync" => "= beginning anew".into(),
        other => format!("? {other}"),
    }
}
